-- name: JobLogList :many
-- The next changes of status of the jobs of a migration after an id, in order; no row: there are no more. Months before since, when the
-- migration was created, are not read.
-- Called by: control.(*Control).Logs.
-- Index: batched_background_migration_job_transition_logs_pkey or _job_idx, batched_background_migration_jobs_migration_idx.
-- Locks: nothing.
SELECT l.*
FROM bbm.batched_background_migration_job_transition_logs AS l
JOIN bbm.batched_background_migration_jobs AS j ON j.id = l.batched_background_migration_job_id
WHERE j.batched_background_migration_id = @migration_id
  AND l.created_at >= @since
  AND l.id > @after_id
ORDER BY l.id
LIMIT @page_size;

-- name: MigrationLogList :many
-- The changes of status of a migration, in order.
-- Called by: control.(*Control).MigrationLogs.
-- Index: batched_background_migration_transition_logs_migration_idx.
-- Locks: nothing.
SELECT *
FROM bbm.batched_background_migration_transition_logs AS t
WHERE t.batched_background_migration_id = @migration_id
ORDER BY t.id;
