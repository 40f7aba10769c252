-- name: JobList :many
-- The next jobs of a migration after an id, in the order of their making; no row: there are no more.
-- Called by: control.(*Control).Jobs.
-- Index: batched_background_migration_jobs_migration_idx, which comparing rows holds the planner to: by the primary key the last page would
-- read the newer jobs of all other migrations.
-- Locks: nothing.
SELECT *
FROM bbm.batched_background_migration_jobs AS j
WHERE (j.batched_background_migration_id, j.id) > (@migration_id::bigint, @after_id::bigint)
  AND j.batched_background_migration_id <= @migration_id
ORDER BY j.batched_background_migration_id, j.id
LIMIT @page_size;

-- name: JobListSucceeded :many
-- The same for the jobs that have succeeded: as a rule most of them.
-- Called by: control.(*Control).Jobs.
-- Index: batched_background_migration_jobs_migration_idx.
-- Locks: nothing.
SELECT *
FROM bbm.batched_background_migration_jobs AS j
WHERE (j.batched_background_migration_id, j.id) > (@migration_id::bigint, @after_id::bigint)
  AND j.batched_background_migration_id <= @migration_id
  AND j.status = 'succeeded'
ORDER BY j.batched_background_migration_id, j.id
LIMIT @page_size;

-- name: JobListUnsucceeded :many
-- The same for the jobs in one of the other statuses: as a rule few of very many.
-- Called by: control.(*Control).Jobs.
-- Index: batched_background_migration_jobs_unsucceeded_idx.
-- Locks: nothing.
SELECT *
FROM bbm.batched_background_migration_jobs AS j
WHERE j.batched_background_migration_id = @migration_id
  AND j.id > @after_id
  AND j.status = @status::bbm.job_status
  AND j.finished_at IS NULL
ORDER BY j.id
LIMIT @page_size;

-- name: JobCountRunning :one
-- How many jobs of a migration are running.
-- Called by: control.(*Control).adopt.
-- Index: batched_background_migration_jobs_unsucceeded_idx.
-- Locks: nothing.
SELECT count(*)::bigint AS jobs
FROM bbm.batched_background_migration_jobs AS j
WHERE j.batched_background_migration_id = @migration_id
  AND j.status = 'running'
  AND j.finished_at IS NULL;
