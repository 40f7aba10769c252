-- name: JobQuarantine :one
-- Leaves the row that the next sub-batch of a job failed on out, and moves the progress past it; a row that was in quarantine comes back with what
-- it fails on now. is_quarantined tells whether the migration wants that and has room for it. Raises BBM01 and BBM02 as JobProgress does.
-- Called by: runner.(*Executor).quarantine, in a transaction of its own.
-- Index: batched_background_migration_jobs_pkey, batched_background_migrations_pkey,
-- batched_background_migration_quarantined_rows_migration_idx.
-- Locks: the row of the job, then those of the migration and of the quarantine, until commit.
WITH held_slot AS MATERIALIZED (
    SELECT
        pg_advisory_unlock(1650617601, @slot::integer) AS was_held,
        pg_try_advisory_lock(1650617601, @slot::integer) AS is_held
), fenced_job AS (
    SELECT j.id, j.batched_background_migration_id, j.progress_key, j.is_single_row
    FROM bbm.batched_background_migration_jobs AS j
    WHERE j.id = @job_id
      AND j.status = 'running'
      AND j.claims = @claims
      AND j.progress_key IS NOT DISTINCT FROM sqlc.narg('progress_key')::text[]
      AND (SELECT h.was_held AND h.is_held FROM held_slot AS h)
    ORDER BY j.id
    FOR UPDATE
), returned_row AS (
    UPDATE bbm.batched_background_migration_quarantined_rows AS q
    SET
        batched_background_migration_job_id = j.id,
        retry_job_id = CASE WHEN NOT j.is_single_row THEN q.retry_job_id END,
        failures = q.failures + 1,
        exception_class = left(@exception_class::text, 100),
        exception_message = left(@exception_message::text, 1000),
        exception_constraint = left(sqlc.narg('exception_constraint')::text, 200),
        updated_at = now()
    FROM fenced_job AS j
    WHERE q.batched_background_migration_id = j.batched_background_migration_id
      AND q.row_key = @row_key::text[]
      AND q.mended_at IS NULL
    RETURNING q.id
), counted_migration AS (
    -- The count is compared with the limit in the row that is locked: two jobs at once cannot pass it together.
    UPDATE bbm.batched_background_migrations AS m
    SET
        quarantined_rows = m.quarantined_rows + 1,
        updated_at = now()
    FROM fenced_job AS j
    WHERE m.id = j.batched_background_migration_id
      AND m.on_row_error = 'quarantine'
      AND m.quarantined_rows < m.quarantine_limit
      AND NOT EXISTS (SELECT FROM returned_row)
    RETURNING m.id
), new_row AS (
    INSERT INTO bbm.batched_background_migration_quarantined_rows (
        batched_background_migration_id, batched_background_migration_job_id, after_key, row_key,
        exception_class, exception_message, exception_constraint
    )
    SELECT
        m.id, j.id, j.progress_key, @row_key::text[],
        left(@exception_class::text, 100), left(@exception_message::text, 1000), left(sqlc.narg('exception_constraint')::text, 200)
    FROM counted_migration AS m
    JOIN fenced_job AS j ON j.batched_background_migration_id = m.id
    RETURNING id
), progressed_job AS (
    UPDATE bbm.batched_background_migration_jobs AS j
    SET
        progress_key = @row_key::text[],
        processed_rows = j.processed_rows + 1,
        stalls = 0,
        updated_at = now()
    FROM fenced_job AS f
    WHERE j.id = f.id
      AND (EXISTS (SELECT FROM returned_row) OR EXISTS (SELECT FROM new_row))
    RETURNING j.id
)

SELECT
    bbm.assert_fence(EXISTS (SELECT FROM fenced_job)) AS fenced,
    bbm.assert_target(m.table_name, m.table_oid) AS is_target,
    EXISTS (SELECT FROM progressed_job) AS is_quarantined,
    m.on_row_error,
    m.quarantine_limit
FROM bbm.batched_background_migrations AS m
WHERE m.id = @migration_id;

-- name: QuarantineRetry :one
-- Makes a job for each row of a migration that rests in quarantine, and sets a finished migration going again. Its proof stands for all other rows, and
-- these are looked at one by one; a version of the work that is given replaces the pinned one, and what that one has proved. The answer is how many jobs
-- were made; 0: nothing rests, and nothing has changed.
-- Called by: control.(*Control).RetryQuarantined, which holds the row of the migration.
-- Index: batched_background_migrations_pkey, batched_background_migration_quarantined_rows_migration_idx,
-- batched_background_migration_quarantined_rows_pkey.
-- Locks: the rows of the migration and of its quarantine, until commit.
WITH locked_migration AS (
    SELECT m.id, m.status
    FROM bbm.batched_background_migrations AS m
    WHERE m.id = @migration_id
      AND m.status <> 'cancelled'
    ORDER BY m.id
    FOR UPDATE
), resting_row AS (
    SELECT q.id, q.batched_background_migration_id, q.after_key, q.row_key
    FROM bbm.batched_background_migration_quarantined_rows AS q
    JOIN locked_migration AS l ON l.id = q.batched_background_migration_id
    WHERE q.retry_job_id IS NULL
      AND q.mended_at IS NULL
    ORDER BY q.id
    FOR UPDATE OF q
), new_job AS (
    INSERT INTO bbm.batched_background_migration_jobs AS j (
        batched_background_migration_id, pass, is_single_row, after_key, until_key, progress_key, status, next_attempt_at, created_at, updated_at
    )
    SELECT r.batched_background_migration_id, 1, true, r.after_key, r.row_key, r.after_key, 'pending', now(), now(), now()
    FROM resting_row AS r
    ORDER BY r.id
    RETURNING j.id, j.until_key, j.created_at, j.status
), logged_creation AS (
    INSERT INTO bbm.batched_background_migration_job_transition_logs (
        batched_background_migration_job_id, created_at, next_status, attempt
    )
    SELECT j.id, j.created_at, j.status, 1
    FROM new_job AS j
    ORDER BY j.id
), tried_row AS (
    UPDATE bbm.batched_background_migration_quarantined_rows AS q
    SET
        retry_job_id = j.id,
        updated_at = now()
    FROM resting_row AS r
    JOIN new_job AS j ON j.until_key = r.row_key
    WHERE q.id = r.id
    RETURNING q.id
), retried_migration AS (
    UPDATE bbm.batched_background_migrations AS m
    SET
        status = CASE WHEN l.status = 'finished' THEN 'active' ELSE l.status END,
        finished_at = NULL,
        verified_at = CASE WHEN sqlc.narg('work_checksum')::text IS NULL THEN m.verified_at END,
        work_checksum = coalesce(sqlc.narg('work_checksum')::text, m.work_checksum),
        remaining_predicate = CASE
            WHEN sqlc.narg('work_checksum')::text IS NULL THEN m.remaining_predicate
            ELSE sqlc.narg('remaining_predicate')::text
        END,
        row_set = CASE WHEN sqlc.narg('work_checksum')::text IS NULL THEN m.row_set ELSE @row_set::jsonb END,
        updated_at = now()
    FROM locked_migration AS l
    WHERE m.id = l.id
      AND EXISTS (SELECT FROM tried_row)
    RETURNING m.*
), logged_transition AS (
    INSERT INTO bbm.batched_background_migration_transition_logs (
        batched_background_migration_id, created_at, previous_status, next_status, changed_by, reason
    )
    SELECT m.id, m.updated_at, l.status, m.status, @changed_by::text, sqlc.narg('reason')::text
    FROM retried_migration AS m
    JOIN locked_migration AS l ON l.id = m.id
    WHERE l.status = 'finished'
)

SELECT count(*)::bigint AS jobs
FROM tried_row AS r;

-- name: QuarantineList :many
-- The next rows of a migration that are left out, after an id, in the order in which they were; with those that were mended since, where that is
-- wanted. No row: there are no more.
-- Called by: control.(*Control).quarantined.
-- Index: batched_background_migration_quarantined_rows_migration_idx.
-- Locks: nothing.
SELECT *
FROM bbm.batched_background_migration_quarantined_rows AS q
WHERE (q.batched_background_migration_id, q.id) > (@migration_id::bigint, @after_id::bigint)
  AND q.batched_background_migration_id <= @migration_id
  AND (@is_with_mended::boolean OR q.mended_at IS NULL)
ORDER BY q.batched_background_migration_id, q.id
LIMIT @page_size;

-- name: QuarantineListKeys :many
-- The keys of the rows of a migration that are left out, as texts: a walk over what remains does not count them. One that a job has tried again with
-- success is left out no longer, though that is not recorded yet.
-- Called by: runner.(*Executor).walkPiece, control.(*Control).walk.
-- Index: batched_background_migration_quarantined_rows_migration_idx, batched_background_migration_jobs_pkey.
-- Locks: nothing.
SELECT q.row_key::text AS row_key
FROM bbm.batched_background_migration_quarantined_rows AS q
WHERE q.batched_background_migration_id = @migration_id
  AND q.mended_at IS NULL
  AND NOT EXISTS (
      SELECT
      FROM bbm.batched_background_migration_jobs AS j
      WHERE j.id = q.retry_job_id
        AND j.progress_key = j.until_key
  );
