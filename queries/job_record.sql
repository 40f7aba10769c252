-- name: JobSucceed :one
-- Ends a running job whose range is done, logs it and rolls its counts up; a row that it was to try again is out of quarantine.
-- No row: the job is no longer ours (fenced off).
-- Called by: runner.(*Executor).lookAround, runner.(*Executor).recordEnded.
-- Index: batched_background_migration_jobs_pkey, batched_background_migrations_pkey,
-- batched_background_migration_quarantined_rows_retry_job_idx, batched_background_migration_verifications_pkey.
-- Locks: the row of the job, then that of a walk that begins again, then that of the migration, until commit.
WITH ended_job AS (
    UPDATE bbm.batched_background_migration_jobs AS j
    SET
        status = 'succeeded',
        finished_at = coalesce(sqlc.narg('now')::timestamptz, now()),
        updated_at = coalesce(sqlc.narg('now')::timestamptz, now())
    WHERE j.id = @job_id
      AND j.status = 'running'
      AND j.claims = @claims
      AND j.progress_key = j.until_key
    RETURNING j.*
), logged_transition AS (
    INSERT INTO bbm.batched_background_migration_job_transition_logs (
        batched_background_migration_job_id, created_at, previous_status, next_status, attempt
    )
    SELECT j.id, j.updated_at, 'running', j.status, j.attempts + 1
    FROM ended_job AS j
), mended_row AS (
    -- One that was left out again rests: no job is to try it.
    UPDATE bbm.batched_background_migration_quarantined_rows AS q
    SET
        mended_at = j.updated_at,
        retry_job_id = NULL,
        updated_at = j.updated_at
    FROM ended_job AS j
    WHERE q.retry_job_id = j.id
      AND j.is_single_row
    RETURNING q.id
), restarted_walk AS (
    -- A row that was not changed, and is not left out any more, is done; or it is gone, and may stand under another key by now, behind the walk or the proof.
    -- The walk is locked before the migration, as in VerificationProgress.
    UPDATE bbm.batched_background_migration_verifications AS v
    SET
        statement = NULL,
        awaited_transactions = NULL,
        updated_at = j.updated_at
    FROM ended_job AS j
    WHERE v.batched_background_migration_id = j.batched_background_migration_id
      AND v.finished_at IS NULL
      AND j.affected_rows = 0
      AND EXISTS (SELECT FROM mended_row)
    RETURNING v.pass
), counted_migration AS (
    UPDATE bbm.batched_background_migrations AS m
    SET
        learned_sub_batch_size = coalesce(sqlc.narg('learned_sub_batch_size')::integer, m.learned_sub_batch_size),
        succeeded_jobs = m.succeeded_jobs + 1,
        processed_rows = m.processed_rows + CASE WHEN j.pass = 0 THEN j.processed_rows ELSE 0 END,
        affected_rows = m.affected_rows + j.affected_rows,
        quarantined_rows = m.quarantined_rows - (SELECT count(*) FROM mended_row),
        verified_at = CASE WHEN j.affected_rows > 0 OR NOT EXISTS (SELECT FROM mended_row) THEN m.verified_at END,
        updated_at = j.updated_at
    FROM ended_job AS j
    WHERE m.id = j.batched_background_migration_id
      AND (SELECT count(*) FROM restarted_walk) >= 0
)

SELECT j.*
FROM ended_job AS j;

-- name: JobFail :one
-- Ends the attempt of a running job with its exception, and fails the migration when that was the last attempt or the failure is fatal.
-- exception_place says in words where: on which row, by which constraint, or nothing. The answer has the code and the message of the migration where it failed.
-- No row: the job is no longer ours (fenced off). The wait before the next attempt doubles from retry_base to retry_limit, jittered by half.
-- Called by: runner.(*Executor).record.
-- Index: batched_background_migration_jobs_pkey, batched_background_migrations_pkey.
-- Locks: the row of the job, then that of the migration, until commit.
WITH failed_job AS (
    UPDATE bbm.batched_background_migration_jobs AS j
    SET
        status = 'failed',
        attempts = j.attempts + 1,
        stalls = 0,
        next_attempt_at = coalesce(sqlc.narg('now')::timestamptz, now())
        + least(sqlc.arg(retry_base)::interval * power(2, least(j.attempts, 30)), @retry_limit::interval) * (0.75 + random() / 2),
        exception_class = left(@exception_class::text, 100),
        exception_message = left(@exception_message::text, 1000),
        exception_key = sqlc.narg('exception_key')::text[],
        exception_constraint = left(sqlc.narg('exception_constraint')::text, 200),
        updated_at = coalesce(sqlc.narg('now')::timestamptz, now())
    WHERE j.id = @job_id
      AND j.status = 'running'
      AND j.claims = @claims
    RETURNING j.*
), logged_transition AS (
    INSERT INTO bbm.batched_background_migration_job_transition_logs (
        batched_background_migration_job_id, created_at, previous_status, next_status, attempt,
        exception_class, exception_message, exception_key, exception_constraint
    )
    SELECT
        j.id, j.updated_at, 'running', j.status, j.attempts,
        j.exception_class, j.exception_message, j.exception_key, j.exception_constraint
    FROM failed_job AS j
), locked_migration AS (
    SELECT m.id, m.status, m.max_attempts
    FROM bbm.batched_background_migrations AS m
    JOIN failed_job AS j ON j.batched_background_migration_id = m.id
    WHERE m.status IN ('paused', 'active', 'running')
      AND (@is_fatal::boolean OR j.attempts >= m.max_attempts)
    ORDER BY m.id
    FOR UPDATE OF m
), failed_migration AS (
    UPDATE bbm.batched_background_migrations AS m
    SET
        status = 'failed',
        failure_error_code = CASE WHEN @is_fatal::boolean THEN 'invalid_work' ELSE 'max_attempts' END::bbm.migration_failure_code,
        failure_message = format(
            'job %s failed in %s of %s attempts; the last: %s%s: %s',
            j.id, j.attempts, l.max_attempts, j.exception_class, @exception_place::text, j.exception_message
        ),
        on_hold_until = NULL,
        hold_reason = NULL,
        updated_at = j.updated_at
    FROM locked_migration AS l
    CROSS JOIN failed_job AS j
    WHERE m.id = l.id
    RETURNING m.*
), logged_migration_transition AS (
    INSERT INTO bbm.batched_background_migration_transition_logs (
        batched_background_migration_id, created_at, previous_status, next_status, changed_by, reason
    )
    SELECT m.id, m.updated_at, l.status, m.status, @changed_by::text, m.failure_message
    FROM failed_migration AS m
    JOIN locked_migration AS l ON l.id = m.id
)

SELECT
    j.attempts,
    j.next_attempt_at,
    m.failure_error_code,
    m.failure_message
FROM failed_job AS j
LEFT JOIN failed_migration AS m ON true;

-- name: JobRelease :one
-- Gives a running job back before its end: it goes on from its progress_key when it is claimed again, after retry_in. stalls: how often it was
-- interrupted in a row without progress. No row: it is no longer ours.
-- Called by: runner.(*Executor).record.
-- Index: batched_background_migration_jobs_pkey.
-- Locks: the row of the job, until commit.
WITH released_job AS (
    UPDATE bbm.batched_background_migration_jobs AS j
    SET
        status = 'pending',
        stalls = @stalls::integer,
        next_attempt_at = coalesce(sqlc.narg('now')::timestamptz, now()) + sqlc.arg(retry_in)::interval,
        exception_class = left(@exception_class::text, 100),
        exception_message = left(@exception_message::text, 1000),
        exception_key = NULL,
        exception_constraint = NULL,
        updated_at = coalesce(sqlc.narg('now')::timestamptz, now())
    WHERE j.id = @job_id
      AND j.status = 'running'
      AND j.claims = @claims
    RETURNING j.*
), logged_transition AS (
    INSERT INTO bbm.batched_background_migration_job_transition_logs (
        batched_background_migration_job_id, created_at, previous_status, next_status, attempt, exception_class, exception_message
    )
    SELECT j.id, j.updated_at, 'running', j.status, j.attempts + 1, j.exception_class, j.exception_message
    FROM released_job AS j
)

SELECT j.id
FROM released_job AS j;
