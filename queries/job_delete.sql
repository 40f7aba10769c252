-- name: JobListExecuting :many
-- The jobs of a migration that a runner executes: they run in a slot whose lock is held. A free one is held until commit, so that no runner takes
-- it meanwhile: its job has lost its runner. No row: nothing is executed.
-- Called by: control.(*Control).deletePage.
-- Index: batched_background_migration_jobs_unsucceeded_idx.
-- Locks: advisory (1650617601, slot) of each slot whose runner is lost, until commit.
WITH running_job AS MATERIALIZED (
    SELECT j.id, j.slot
    FROM bbm.batched_background_migration_jobs AS j
    WHERE j.batched_background_migration_id = @migration_id
      AND j.status = 'running'
      AND j.finished_at IS NULL
)

SELECT r.id
FROM running_job AS r
WHERE NOT pg_try_advisory_xact_lock(1650617601, r.slot);

-- name: JobDelete :execrows
-- Forgets the first jobs of a migration that has ended, with their history: a page, so that none of the transactions is long. 0: there are no more.
-- Called by: control.(*Control).deletePage, which holds the row of the migration.
-- Index: batched_background_migration_jobs_migration_idx, which comparing rows holds the planner to, batched_background_migration_jobs_pkey; not in the plan: their
-- history by batched_background_migration_job_transition_logs_job_idx.
-- Locks: the rows of the jobs and of their log, until commit.
WITH forgotten_job AS MATERIALIZED (
    SELECT j.id
    FROM bbm.batched_background_migration_jobs AS j
    WHERE (j.batched_background_migration_id, j.id) > (@migration_id::bigint, 0)
      AND j.batched_background_migration_id <= @migration_id
    ORDER BY j.batched_background_migration_id, j.id
    LIMIT @page_size
    FOR UPDATE
)

DELETE FROM bbm.batched_background_migration_jobs AS j
WHERE j.id = ANY (ARRAY(SELECT f.id FROM forgotten_job AS f));

-- name: JobForget :one
-- Forgets a page of jobs of migrations that ended before the whole months of retention; their migrations stay. The answer is how many.
-- Called by: runner.(*Executor).maintain.
-- Index: none here; see the function.
-- Locks: the rows of the jobs and of their log, until commit.
SELECT bbm.forget_jobs(@retention_months::integer)::bigint AS jobs;
