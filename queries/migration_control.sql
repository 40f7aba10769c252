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
        paused => @is_paused::boolean
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
-- Index: none here; the function finds the migration by its name.
-- Locks: the row of the migration, until commit.
SELECT bbm.set(name => @name::text, setting => @setting::text, value => @value::text, reason => sqlc.narg('reason')::text);

-- name: MigrationTune :exec
-- Sets what is given of the tuning; jobs that are running read sub_batch_size and pause again after each sub-batch.
-- Called by: control.(*Control).Enqueue, which holds the row.
-- Index: batched_background_migrations_pkey.
-- Locks: the row of the migration, until commit.
UPDATE bbm.batched_background_migrations AS m
SET
    batch_size = coalesce(sqlc.narg('batch_size')::integer, m.batch_size),
    sub_batch_size = CASE WHEN NOT @is_sub_batch_auto::boolean THEN coalesce(sqlc.narg('sub_batch_size')::integer, m.sub_batch_size) END,
    job_interval = coalesce(sqlc.narg('job_interval')::interval, m.job_interval),
    pause = coalesce(sqlc.narg('pause')::interval, m.pause),
    max_attempts = coalesce(sqlc.narg('max_attempts')::integer, m.max_attempts),
    asynchronous_commit = coalesce(sqlc.narg('asynchronous_commit')::boolean, m.asynchronous_commit),
    parallelism = coalesce(sqlc.narg('parallelism')::integer, m.parallelism),
    on_row_error = coalesce(sqlc.narg('on_row_error')::bbm.row_error_policy, m.on_row_error),
    quarantine_limit = coalesce(sqlc.narg('quarantine_limit')::integer, m.quarantine_limit),
    updated_at = now()
WHERE m.id = @migration_id;

-- name: MigrationPause :one
-- Pauses a migration: no job of it is started, and a running one goes back to pending after its sub-batch. No row: it was not active or running.
-- Called by: control.(*Control).Pause.
-- Index: batched_background_migrations_pkey.
-- Locks: the row of the migration, until commit.
WITH locked_migration AS (
    SELECT m.id, m.status
    FROM bbm.batched_background_migrations AS m
    WHERE m.id = @migration_id
      AND m.status IN ('active', 'running')
    ORDER BY m.id
    FOR UPDATE
), paused_migration AS (
    UPDATE bbm.batched_background_migrations AS m
    SET
        status = 'paused',
        updated_at = now()
    FROM locked_migration AS l
    WHERE m.id = l.id
    RETURNING m.*
), logged_transition AS (
    INSERT INTO bbm.batched_background_migration_transition_logs (
        batched_background_migration_id, created_at, previous_status, next_status, changed_by, reason
    )
    SELECT m.id, m.updated_at, l.status, m.status, @changed_by::text, sqlc.narg('reason')::text
    FROM paused_migration AS m
    JOIN locked_migration AS l ON l.id = m.id
)

SELECT m.id
FROM paused_migration AS m;

-- name: MigrationResume :one
-- Lets a migration go on: a paused one becomes active, one that is active or running keeps its status; a hold is lifted. A version of the
-- work that is given replaces the pinned one, and what that one has proved. No row: it has ended, or failed.
-- Called by: control.(*Control).Resume.
-- Index: batched_background_migrations_pkey.
-- Locks: the row of the migration, until commit.
WITH locked_migration AS (
    SELECT m.id, m.status
    FROM bbm.batched_background_migrations AS m
    WHERE m.id = @migration_id
      AND m.status IN ('paused', 'active', 'running')
    ORDER BY m.id
    FOR UPDATE
), resumed_migration AS (
    UPDATE bbm.batched_background_migrations AS m
    SET
        status = CASE WHEN l.status = 'running' THEN l.status ELSE 'active' END,
        work_checksum = coalesce(sqlc.narg('work_checksum')::text, m.work_checksum),
        remaining_predicate = CASE
            WHEN sqlc.narg('work_checksum')::text IS NULL THEN m.remaining_predicate
            ELSE sqlc.narg('remaining_predicate')::text
        END,
        -- What the bound was fixed for stays true of it.
        row_set = CASE WHEN sqlc.narg('work_checksum')::text IS NULL OR m.max_key IS NOT NULL THEN m.row_set ELSE @row_set::jsonb END,
        verified_at = CASE WHEN sqlc.narg('work_checksum')::text IS NULL THEN m.verified_at END,
        on_hold_until = NULL,
        hold_reason = NULL,
        updated_at = now()
    FROM locked_migration AS l
    WHERE m.id = l.id
    RETURNING m.*
), logged_transition AS (
    INSERT INTO bbm.batched_background_migration_transition_logs (
        batched_background_migration_id, created_at, previous_status, next_status, changed_by, reason
    )
    SELECT m.id, m.updated_at, l.status, m.status, @changed_by::text, sqlc.narg('reason')::text
    FROM resumed_migration AS m
    JOIN locked_migration AS l ON l.id = m.id
)

SELECT m.id
FROM resumed_migration AS m;

-- name: MigrationCancel :one
-- Ends a migration for good; what it has done stays done. No row: it was finished or cancelled.
-- Called by: control.(*Control).Cancel.
-- Index: batched_background_migrations_pkey.
-- Locks: the row of the migration, until commit.
WITH locked_migration AS (
    SELECT m.id, m.status
    FROM bbm.batched_background_migrations AS m
    WHERE m.id = @migration_id
      AND m.status IN ('paused', 'active', 'running', 'failed')
    ORDER BY m.id
    FOR UPDATE
), cancelled_migration AS (
    UPDATE bbm.batched_background_migrations AS m
    SET
        status = 'cancelled',
        on_hold_until = NULL,
        hold_reason = NULL,
        updated_at = now()
    FROM locked_migration AS l
    WHERE m.id = l.id
    RETURNING m.*
), logged_transition AS (
    INSERT INTO bbm.batched_background_migration_transition_logs (
        batched_background_migration_id, created_at, previous_status, next_status, changed_by, reason
    )
    SELECT m.id, m.updated_at, l.status, m.status, @changed_by::text, sqlc.narg('reason')::text
    FROM cancelled_migration AS m
    JOIN locked_migration AS l ON l.id = m.id
)

SELECT m.id
FROM cancelled_migration AS m;

-- name: MigrationRetry :one
-- Sets a failed migration going again: its failed jobs are due at once, and the attempts of all that wait are counted anew. A version of the
-- work that is given replaces the pinned one, and what that one has proved. No row: it had not failed.
-- Called by: control.(*Control).Retry.
-- Index: batched_background_migrations_pkey, batched_background_migration_jobs_waiting_idx, batched_background_migration_jobs_pkey.
-- Locks: the rows of the migration and of its waiting jobs, until commit.
WITH locked_migration AS (
    SELECT m.id, m.status
    FROM bbm.batched_background_migrations AS m
    WHERE m.id = @migration_id
      AND m.status = 'failed'
    ORDER BY m.id
    FOR UPDATE
), retried_migration AS (
    UPDATE bbm.batched_background_migrations AS m
    SET
        status = 'active',
        work_checksum = coalesce(sqlc.narg('work_checksum')::text, m.work_checksum),
        remaining_predicate = CASE
            WHEN sqlc.narg('work_checksum')::text IS NULL THEN m.remaining_predicate
            ELSE sqlc.narg('remaining_predicate')::text
        END,
        -- What the bound was fixed for stays true of it.
        row_set = CASE WHEN sqlc.narg('work_checksum')::text IS NULL OR m.max_key IS NOT NULL THEN m.row_set ELSE @row_set::jsonb END,
        verified_at = CASE WHEN sqlc.narg('work_checksum')::text IS NULL THEN m.verified_at END,
        failure_error_code = NULL,
        failure_message = NULL,
        on_hold_until = NULL,
        hold_reason = NULL,
        updated_at = now()
    FROM locked_migration AS l
    WHERE m.id = l.id
    RETURNING m.*
), logged_transition AS (
    INSERT INTO bbm.batched_background_migration_transition_logs (
        batched_background_migration_id, created_at, previous_status, next_status, changed_by, reason
    )
    SELECT m.id, m.updated_at, l.status, m.status, @changed_by::text, sqlc.narg('reason')::text
    FROM retried_migration AS m
    JOIN locked_migration AS l ON l.id = m.id
), waiting_job AS (
    SELECT j.id, j.status
    FROM bbm.batched_background_migration_jobs AS j
    JOIN locked_migration AS l ON l.id = j.batched_background_migration_id
    WHERE j.status IN ('pending', 'failed')
    ORDER BY j.id
    FOR UPDATE OF j
), reset_job AS (
    UPDATE bbm.batched_background_migration_jobs AS j
    SET
        status = 'pending',
        attempts = 0,
        stalls = 0,
        next_attempt_at = now(),
        updated_at = now()
    FROM waiting_job AS w
    WHERE j.id = w.id
    RETURNING j.id, j.updated_at, w.status AS previous_status, j.status, j.attempts
), logged_job_transition AS (
    INSERT INTO bbm.batched_background_migration_job_transition_logs (
        batched_background_migration_job_id, created_at, previous_status, next_status, attempt
    )
    SELECT j.id, j.updated_at, j.previous_status, j.status, j.attempts + 1
    FROM reset_job AS j
    WHERE j.previous_status = 'failed'
)

SELECT m.id
FROM retried_migration AS m;

-- name: MigrationUnhold :execrows
-- Lifts the hold of a migration whose status stays as it is; 0 when there was none.
-- Called by: control.(*Control).Resume, which holds the row.
-- Index: batched_background_migrations_pkey.
-- Locks: the row of the migration, until commit.
UPDATE bbm.batched_background_migrations AS m
SET
    on_hold_until = NULL,
    hold_reason = NULL,
    updated_at = now()
WHERE m.id = @migration_id
  AND m.status IN ('active', 'running')
  AND m.on_hold_until IS NOT NULL;

-- name: MigrationMakeDue :exec
-- Lets the jobs that wait for their next attempt go at once. A last start in the future, of a clock that was set back, is taken for now.
-- Called by: control.(*Control).Resume, which holds the row.
-- Index: batched_background_migrations_pkey, batched_background_migration_jobs_waiting_idx.
-- Locks: the rows of the migration and of its waiting jobs, until commit.
WITH due_job AS (
    UPDATE bbm.batched_background_migration_jobs AS j
    SET
        next_attempt_at = now(),
        updated_at = now()
    WHERE j.batched_background_migration_id = @migration_id
      AND j.status IN ('pending', 'failed')
      AND j.next_attempt_at > now()
)

UPDATE bbm.batched_background_migrations AS m
SET last_claimed_at = now()
WHERE m.id = @migration_id
  AND m.last_claimed_at > now();

-- name: MigrationDelete :execrows
-- Forgets a migration that has ended, with its history and what JobDelete has left of its jobs; 0 when it has not ended.
-- Called by: control.(*Control).deletePage, which holds the row.
-- Index: batched_background_migrations_pkey; not in the plan: what refers to it, by the indexes of its foreign keys.
-- Locks: the rows of the migration, its own history, its quarantine and its walks, until commit.
DELETE FROM bbm.batched_background_migrations AS m
WHERE m.id = @migration_id
  AND m.status IN ('finished', 'cancelled');
