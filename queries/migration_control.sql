-- name: ChangedBySet :exec
-- Says for whom this transaction acts, where that is not the role of the database.
-- Called by: control.(*Control).Enqueue, control.(*Control).acting.
-- Index: none.
-- Locks: nothing.
SELECT set_config('bbm.changed_by', @changed_by::text, true);

-- name: MigrationEnqueue :one
-- Creates a migration as SQL would, and returns its name; raises duplicate_object when the name has another definition. No row: no such table.
-- Called by: control.(*Control).Enqueue.
-- Index: pg_class_oid_index; not in the plan: batched_background_migrations_name_key.
-- Locks: the name in the unique index, until commit: a second enqueue of it waits.
SELECT
    bbm.enqueue(
        work => @work_name::text,
        target => c.oid::regclass,
        name => @name::text,
        arguments => @arguments::jsonb,
        batch_size => sqlc.narg('batch_size')::integer,
        sub_batch_size => sqlc.narg('sub_batch_size')::integer,
        paused => @is_paused::boolean,
        pause => sqlc.narg('pause')::interval,
        job_interval => sqlc.narg('job_interval')::interval,
        parallelism => sqlc.narg('parallelism')::integer,
        max_attempts => sqlc.narg('max_attempts')::integer,
        on_row_error => sqlc.narg('on_row_error')::text,
        quarantine_limit => sqlc.narg('quarantine_limit')::integer
    )::text AS name
FROM pg_catalog.pg_class AS c
WHERE c.oid = @table_oid;

-- name: MigrationLock :one
-- Holds a migration while it is judged and changed; is_written_here: its row was written by this transaction. No row: there is none.
-- Called by: control.(*Control).locked, control.(*Control).Enqueue.
-- Index: batched_background_migrations_name_key.
-- Locks: the row of the migration, until commit.
SELECT
    sqlc.embed(m),
    (m.xmin = pg_current_xact_id()::xid)::boolean AS is_written_here
FROM bbm.batched_background_migrations AS m
WHERE m.name = @name
ORDER BY m.id
FOR UPDATE;

-- name: MigrationSet :exec
-- Sets one setting of a migration as SQL would, and so notes it in the history; jobs that are running read sub_batch_size and pause again after each
-- sub-batch. Raises undefined_object where there is no such migration, object_not_in_prerequisite_state where it has ended.
-- Called by: control.(*Control).Set.
-- Index: none; not in the plan: batched_background_migrations_name_key.
-- Locks: the row of the migration, until commit.
SELECT bbm.set(name => @name::text, setting => @setting::text, value => @value::text, reason => sqlc.narg('reason')::text);

-- name: MigrationPause :exec
-- Pauses a migration as SQL would: no job of it is started, and a running one goes back to pending after its sub-batch. The function judges the status,
-- writes the history, and wakes idle runners.
-- Called by: control.(*Control).Pause.
-- Index: none; not in the plan: batched_background_migrations_name_key.
-- Locks: the row of the migration, until commit.
SELECT bbm.pause(name => @name::text, reason => sqlc.narg('reason')::text);

-- name: MigrationAdopt :exec
-- Pins another version of the work in place of the old one, and forgets what that one has proved; a walk under way begins again. Where the migration goes
-- on as it is, that is logged here; a change of status that follows says so itself.
-- Called by: control.(*Control).adopt, which holds the row.
-- Index: batched_background_migrations_pkey, batched_background_migration_verifications_pkey.
-- Locks: the rows of the migration and of its walk, until commit.
WITH adopted_migration AS (
    UPDATE bbm.batched_background_migrations AS m
    SET
        work_checksum = @work_checksum::text,
        remaining_predicate = sqlc.narg('remaining_predicate')::text,
        row_set = @row_set::jsonb,
        verified_at = NULL,
        updated_at = now()
    WHERE m.id = @migration_id
    RETURNING m.*
), restarted_walk AS (
    -- Of an earlier version, though the same may come back.
    UPDATE bbm.batched_background_migration_verifications AS v
    SET
        statement = NULL,
        awaited_transactions = NULL,
        updated_at = now()
    WHERE v.batched_background_migration_id = @migration_id
      AND v.finished_at IS NULL
)

INSERT INTO bbm.batched_background_migration_transition_logs (
    batched_background_migration_id, created_at, previous_status, next_status, changed_by, reason
)
SELECT m.id, m.updated_at, m.status, m.status, @changed_by::text, sqlc.narg('reason')::text
FROM adopted_migration AS m
WHERE m.status IN ('active', 'running');

-- name: MigrationResume :exec
-- Lets a migration go on as SQL would: a paused one becomes active, one that is active or running keeps its status; a hold is lifted, and jobs that wait for
-- their next attempt go at once.
-- Called by: control.(*Control).Resume.
-- Index: none; not in the plan: batched_background_migrations_name_key, batched_background_migration_jobs_waiting_idx.
-- Locks: the rows of the migration and of its waiting jobs, until commit.
SELECT bbm.resume(name => @name::text, reason => sqlc.narg('reason')::text);

-- name: MigrationCancel :exec
-- Ends a migration for good as SQL would; what it has done stays done.
-- Called by: control.(*Control).Cancel.
-- Index: none; not in the plan: batched_background_migrations_name_key.
-- Locks: the row of the migration, until commit.
SELECT bbm.cancel(name => @name::text, reason => sqlc.narg('reason')::text);

-- name: MigrationRetry :exec
-- Sets a failed migration going again as SQL would: its failed jobs are due at once, and the attempts of all that wait are counted anew.
-- Called by: control.(*Control).Retry.
-- Index: none; not in the plan: batched_background_migrations_name_key, batched_background_migration_jobs_waiting_idx.
-- Locks: the rows of the migration and of its waiting jobs, until commit.
SELECT bbm.retry(name => @name::text, reason => sqlc.narg('reason')::text);

-- name: MigrationDelete :execrows
-- Forgets a migration that has ended, with its history and what JobDelete has left of its jobs; 0 when it has not ended.
-- Called by: control.(*Control).deletePage, which holds the row.
-- Index: batched_background_migrations_pkey; not in the plan: what refers to it, by the indexes of its foreign keys.
-- Locks: the rows of the migration, its own history, its quarantine and its walks, until commit.
DELETE FROM bbm.batched_background_migrations AS m
WHERE m.id = @migration_id
  AND m.status IN ('finished', 'cancelled');
