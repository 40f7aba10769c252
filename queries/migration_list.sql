-- name: MigrationGet :one
-- A migration by its name; no row: there is none.
-- Called by: control.(*Control).get.
-- Index: batched_background_migrations_name_key.
-- Locks: nothing.
SELECT *
FROM bbm.batched_background_migrations AS m
WHERE m.name = @name;

-- name: MigrationListNames :many
-- The names of the migrations in one of these statuses, oldest first; an empty list of statuses stands for all.
-- Called by: control.(*Control).Names, control.(*Control).Unfinished.
-- Index: batched_background_migrations_pkey.
-- Locks: nothing.
SELECT m.name
FROM bbm.batched_background_migrations AS m
WHERE cardinality(@statuses::text[]) = 0
   OR m.status = ANY ((@statuses::text[])::bbm.migration_status[])
ORDER BY m.id;

-- name: MigrationListIDs :many
-- Every migration.
-- Called by: control.(*Control).Status.
-- Index: batched_background_migrations_pkey, from end to end.
-- Locks: nothing.
SELECT m.id
FROM bbm.batched_background_migrations AS m;

-- name: MigrationFindIDs :many
-- The migrations with these names; fewer rows than names: some are not there.
-- Called by: control.(*Control).Status.
-- Index: batched_background_migrations_name_key.
-- Locks: nothing.
SELECT m.id
FROM bbm.batched_background_migrations AS m
WHERE m.name = ANY (@names::text[]);

-- name: MigrationListFacts :many
-- Migrations as bbm.status has them, which decides how far they are, how fast they go and what they wait for; with their definitions.
-- Called by: control.(*Control).Status.
-- Index: batched_background_migrations_pkey, batched_background_migrations_running_root_table_idx; jobs by batched_background_migration_jobs_running_slot_idx,
-- batched_background_migration_jobs_unsucceeded_idx, batched_background_migration_jobs_waiting_idx and batched_background_migration_jobs_migration_idx; history
-- by batched_background_migration_transition_logs_migration_idx and setting_changes_migration_idx, walks by batched_background_migration_verifications_pkey.
-- Locks: nothing; the lock table is read once.
SELECT
    sqlc.embed(m),
    s.progress,
    s.processed_rows,
    s.total_rows,
    s.affected_rows,
    s.rows_per_second,
    s.eta_seconds,
    s.pending_jobs,
    s.running_jobs,
    s.failed_jobs,
    s.waiting_for,
    s.executing_pids,
    s.moved_at,
    s.on_hold_until,
    s.failed_row_job,
    s.failed_row_attempts,
    s.failed_row_key,
    s.failed_row_exception_class,
    s.failed_row_exception_message,
    s.failed_row_exception_constraint,
    s.verification_pass,
    s.verification_progress,
    s.verification_walked_rows,
    s.verification_remaining_rows,
    now()::timestamptz AS observed_at
FROM bbm.batched_background_migrations AS m
    -- Joined from outside, so that what may be null is typed so; the ids are given twice, since a condition of a join does not reach into a view.
LEFT JOIN bbm.status AS s ON s.id = m.id AND s.id = ANY (@migration_ids::bigint[])
WHERE m.id = ANY (@migration_ids::bigint[])
ORDER BY m.id;
