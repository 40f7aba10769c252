-- name: JobClaim :one
-- Starts the waiting job that is due first: a new attempt of a failed one, or one that was interrupted. No row: none is due, or the interval or
-- the parallelism of the migration forbids it now.
-- Called by: runner.(*Executor).claimFrom, which holds the row of the migration.
-- Index: batched_background_migration_jobs_waiting_idx, batched_background_migration_jobs_pkey, batched_background_migrations_pkey; those that run by
-- batched_background_migration_jobs_unsucceeded_idx.
-- Locks: the row of the job, until commit.
WITH candidate_job AS (
    SELECT j.id, j.status
    FROM bbm.batched_background_migration_jobs AS j
    JOIN bbm.batched_background_migrations AS m ON m.id = j.batched_background_migration_id
    WHERE j.batched_background_migration_id = @migration_id
      AND j.status IN ('pending', 'failed')
      AND j.next_attempt_at <= coalesce(sqlc.narg('now')::timestamptz, now())
      AND (m.last_claimed_at IS NULL OR m.last_claimed_at + m.job_interval <= coalesce(sqlc.narg('now')::timestamptz, now()))
      AND m.parallelism > (
          SELECT count(*)
          FROM bbm.batched_background_migration_jobs AS r
          WHERE r.batched_background_migration_id = @migration_id
            AND r.finished_at IS NULL
            AND r.status = 'running'
      )
    ORDER BY j.next_attempt_at, j.id
    LIMIT 1
    FOR UPDATE OF j
), claimed_job AS (
    UPDATE bbm.batched_background_migration_jobs AS j
    SET
        status = 'running',
        claims = j.claims + 1,
        slot = @slot::integer,
        runner = @runner::text,
        next_attempt_at = NULL,
        started_at = coalesce(j.started_at, sqlc.narg('now')::timestamptz, now()),
        updated_at = coalesce(sqlc.narg('now')::timestamptz, now())
    FROM candidate_job AS c
    WHERE j.id = c.id
    RETURNING j.*
), logged_transition AS (
    INSERT INTO bbm.batched_background_migration_job_transition_logs (
        batched_background_migration_job_id, created_at, previous_status, next_status, attempt
    )
    SELECT j.id, j.updated_at, c.status, j.status, j.attempts + 1
    FROM claimed_job AS j
    JOIN candidate_job AS c ON c.id = j.id
), claimed_migration AS (
    UPDATE bbm.batched_background_migrations AS m
    SET last_claimed_at = j.updated_at
    FROM claimed_job AS j
    WHERE m.id = j.batched_background_migration_id
)

SELECT j.*
FROM claimed_job AS j;

-- name: JobCut :one
-- Cuts a new job at the frontier, (after_key, until_key], and starts it. No row: the frontier has moved, or the migration may not run. Raises BBM02 where
-- its end was found in another table, as MigrationBound does.
-- Called by: runner.(*Executor).claimFrom, which holds the row of the migration.
-- Index: batched_background_migrations_pkey.
-- Locks: the row of the migration, until commit.
WITH cut_migration AS (
    UPDATE bbm.batched_background_migrations AS m
    SET
        frontier_key = @until_key::text[],
        last_claimed_at = coalesce(sqlc.narg('now')::timestamptz, now())
    WHERE m.id = @migration_id
      AND m.status IN ('active', 'running')
      AND m.frontier_key IS NOT DISTINCT FROM sqlc.narg('after_key')::text[]
    RETURNING m.id, m.frontier_key, m.last_claimed_at, m.table_name, m.table_oid
), new_job AS (
    INSERT INTO bbm.batched_background_migration_jobs AS j (
        batched_background_migration_id, after_key, until_key, progress_key, status, claims, slot, runner,
        created_at, updated_at, started_at
    )
    SELECT
        m.id, sqlc.narg('after_key')::text[], m.frontier_key, sqlc.narg('after_key')::text[], 'running', 1, @slot::integer, @runner::text,
        m.last_claimed_at, m.last_claimed_at, m.last_claimed_at
    FROM cut_migration AS m
    WHERE bbm.assert_target(m.table_name, m.table_oid)
    RETURNING j.*
), logged_creation AS (
    INSERT INTO bbm.batched_background_migration_job_transition_logs (
        batched_background_migration_job_id, created_at, previous_status, next_status, attempt
    )
    SELECT j.id, j.created_at, t.previous_status, t.next_status, 1
    FROM new_job AS j
    CROSS JOIN (
        VALUES
        (1, NULL::bbm.job_status, 'pending'::bbm.job_status),
        (2, 'pending'::bbm.job_status, 'running'::bbm.job_status)
    ) AS t (ordinal, previous_status, next_status)
    ORDER BY t.ordinal
)

SELECT j.*
FROM new_job AS j;

-- name: JobRecover :many
-- Puts the jobs of a slot whose runner is gone back to pending; they go on from their progress_key. The last of stall_limit losses in a row
-- without progress is a failed attempt, so that a work that takes its connection down comes to an end. From the second on, the job waits, twice as
-- long as slowDown holds its migration: other jobs go first. One that is_locked, or whose migration must fail and is, is left for the next poll:
-- SKIP LOCKED, so that who holds one row keeps no other job waiting. No row: none was running there.
-- Called by: runner.(*Executor).recoverSlot, which holds the lock of the slot since an earlier statement.
-- Index: batched_background_migration_jobs_running_slot_idx, batched_background_migration_jobs_pkey, batched_background_migrations_pkey; other jobs by
-- batched_background_migration_jobs_unsucceeded_idx.
-- Locks: the rows of the jobs, then of migrations that fail, until commit; it waits for none.
WITH lost_job AS MATERIALIZED (
    SELECT j.id, j.batched_background_migration_id AS migration_id, j.progress_key
    FROM bbm.batched_background_migration_jobs AS j
    WHERE j.slot = @slot::integer
      AND j.status = 'running'
), locked_job AS MATERIALIZED (
    SELECT
        j.id,
        j.batched_background_migration_id AS migration_id,
        j.attempts + 1 AS next_attempts,
        j.stalls + 1 >= @stall_limit::integer AS is_stalled
    FROM bbm.batched_background_migration_jobs AS j
    WHERE j.slot = @slot::integer
      AND j.status = 'running'
    ORDER BY j.id
    FOR UPDATE SKIP LOCKED
), failing_job AS MATERIALIZED (
    SELECT l.id, l.migration_id
    FROM locked_job AS l
    CROSS JOIN LATERAL (
        -- The LIMIT keeps the planner from reading all migrations where it expects more jobs than there are.
        SELECT o.max_attempts, o.status
        FROM bbm.batched_background_migrations AS o
        WHERE o.id = l.migration_id
        LIMIT 1
    ) AS m
    WHERE l.is_stalled
      AND l.next_attempts >= m.max_attempts
      AND m.status IN ('paused', 'active', 'running')
), locked_migration AS MATERIALIZED (
    SELECT m.id, m.status, m.max_attempts
    FROM bbm.batched_background_migrations AS m
    WHERE m.id = ANY (ARRAY(SELECT f.migration_id FROM failing_job AS f))
      AND m.status IN ('paused', 'active', 'running')
    ORDER BY m.id
    FOR UPDATE OF m SKIP LOCKED
), recovered_job AS (
    UPDATE bbm.batched_background_migration_jobs AS j
    SET
        status = CASE WHEN l.is_stalled THEN 'failed' ELSE 'pending' END::bbm.job_status,
        attempts = j.attempts + l.is_stalled::integer,
        stalls = CASE WHEN l.is_stalled THEN 0 ELSE j.stalls + 1 END,
        next_attempt_at = coalesce(sqlc.narg('now')::timestamptz, now()) + CASE
            WHEN j.stalls = 0 THEN interval '0'
            ELSE 2 * least(sqlc.arg(retry_base)::interval * power(2, least(j.stalls - 1 + j.attempts, 30)), @retry_limit::interval)
        END,
        exception_class = 'RunnerLost',
        exception_message = left('the connection of ' || j.runner || ' ended while it held slot ' || j.slot, 1000),
        exception_key = NULL,
        exception_constraint = NULL,
        updated_at = coalesce(sqlc.narg('now')::timestamptz, now())
    FROM locked_job AS l
    WHERE j.id = l.id
      AND NOT EXISTS (
          SELECT
          FROM failing_job AS f
          WHERE f.id = l.id
            AND f.migration_id NOT IN (SELECT o.id FROM locked_migration AS o)
      )
    RETURNING j.*
), logged_transition AS (
    INSERT INTO bbm.batched_background_migration_job_transition_logs (
        batched_background_migration_job_id, created_at, previous_status, next_status, attempt, exception_class, exception_message
    )
    SELECT
        j.id, j.updated_at, 'running', j.status, j.attempts + (j.status = 'pending')::integer, j.exception_class, j.exception_message
    FROM recovered_job AS j
), failed_migration AS (
    UPDATE bbm.batched_background_migrations AS m
    SET
        status = 'failed',
        failure_error_code = 'max_attempts',
        failure_message = format(
            'job %s failed in %s of %s attempts; the last: its runner was lost %s times in a row without progress: %s',
            j.id, j.attempts, l.max_attempts, @stall_limit::integer, j.exception_message
        ),
        on_hold_until = NULL,
        hold_reason = NULL,
        updated_at = j.updated_at
    FROM locked_migration AS l
    JOIN recovered_job AS j ON j.batched_background_migration_id = l.id
    WHERE m.id = l.id
      AND j.id IN (SELECT f.id FROM failing_job AS f)
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
    l.id,
    (j.id IS NULL)::boolean AS is_locked,
    coalesce(j.status, 'running')::bbm.job_status AS status,
    l.progress_key,
    coalesce(j.stalls, 0)::integer AS stalls,
    coalesce(j.exception_message, '')::text AS exception_message,
    (
        -- Losses in a row of other jobs of the migration, the first of each not counted.
        SELECT coalesce(sum(o.stalls - 1), 0)
        FROM bbm.batched_background_migration_jobs AS o
        WHERE o.batched_background_migration_id = m.id
          AND o.finished_at IS NULL
          AND o.stalls > 1
          AND o.id <> l.id
    )::bigint AS losses_of_others,
    m.id AS migration_id,
    m.name AS migration_name,
    m.work_name,
    (m.id IN (SELECT f.id FROM failed_migration AS f))::boolean AS is_migration_failed
FROM lost_job AS l
LEFT JOIN recovered_job AS j ON j.id = l.id
CROSS JOIN LATERAL (
    -- The same LIMIT.
    SELECT o.id, o.name, o.work_name
    FROM bbm.batched_background_migrations AS o
    WHERE o.id = l.migration_id
    LIMIT 1
) AS m
ORDER BY l.id;
