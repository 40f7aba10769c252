-- name: JobClaim :one
-- Starts the waiting job that is due first: a new attempt of a failed one, or one that was interrupted. No row: none is due.
-- Called by: runner.(*Executor).claimFrom, which holds the row of the migration.
-- Index: batched_background_migration_jobs_waiting_idx.
-- Locks: the row of the job, until commit.
WITH candidate_job AS (
    SELECT j.id, j.status
    FROM bbm.batched_background_migration_jobs AS j
    WHERE j.batched_background_migration_id = @migration_id
      AND j.status IN ('pending', 'failed')
      AND j.next_attempt_at <= coalesce(sqlc.narg('now')::timestamptz, now())
    ORDER BY j.next_attempt_at, j.id
    LIMIT 1
    FOR UPDATE
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
-- Cuts a new job at the frontier, (after_key, until_key], and starts it. No row: the frontier has moved, or the migration may not run.
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
    RETURNING m.id, m.frontier_key, m.last_claimed_at
), new_job AS (
    INSERT INTO bbm.batched_background_migration_jobs AS j (
        batched_background_migration_id, after_key, until_key, progress_key, status, claims, slot, runner,
        created_at, updated_at, started_at
    )
    SELECT
        m.id, sqlc.narg('after_key')::text[], m.frontier_key, sqlc.narg('after_key')::text[], 'running', 1, @slot::integer, @runner::text,
        m.last_claimed_at, m.last_claimed_at, m.last_claimed_at
    FROM cut_migration AS m
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
-- Puts the jobs of a slot whose runner is gone back to pending; they go on from their progress_key. No row: none was running there.
-- Called by: runner.(*Executor).recoverLostJobs, which holds the lock of the slot since an earlier statement.
-- Index: batched_background_migration_jobs_running_slot_idx.
-- Locks: the rows of the jobs, until commit.
WITH lost_job AS (
    SELECT j.id
    FROM bbm.batched_background_migration_jobs AS j
    WHERE j.slot = @slot::integer
      AND j.status = 'running'
    ORDER BY j.id
    FOR UPDATE
), recovered_job AS (
    UPDATE bbm.batched_background_migration_jobs AS j
    SET
        status = 'pending',
        stalls = j.stalls + 1,
        next_attempt_at = coalesce(sqlc.narg('now')::timestamptz, now()),
        exception_class = 'RunnerLost',
        exception_message = left('the connection of ' || j.runner || ' ended while it held slot ' || j.slot, 1000),
        updated_at = coalesce(sqlc.narg('now')::timestamptz, now())
    FROM lost_job AS l
    WHERE j.id = l.id
    RETURNING j.*
), logged_transition AS (
    INSERT INTO bbm.batched_background_migration_job_transition_logs (
        batched_background_migration_job_id, created_at, previous_status, next_status, attempt, exception_class, exception_message
    )
    SELECT j.id, j.updated_at, 'running', j.status, j.attempts + 1, j.exception_class, j.exception_message
    FROM recovered_job AS j
)

SELECT j.*
FROM recovered_job AS j
ORDER BY j.id;
