-- name: JobLogList :many
-- The next changes of status of the jobs of a migration, job by job and in order within each, after one of them; no row: there are no more.
-- Months before since, when the migration was created, are not read. To order them all by time would be to sort them all, for each page.
-- Called by: control.(*Control).Logs.
-- Index: batched_background_migration_jobs_migration_idx, batched_background_migration_job_transition_logs_job_idx.
-- Locks: nothing.
SELECT l.*
FROM bbm.batched_background_migration_jobs AS j
CROSS JOIN LATERAL (
    -- The LIMIT keeps the planner to looking job by job, whatever share of the log it expects since then.
    SELECT t.*
    FROM bbm.batched_background_migration_job_transition_logs AS t
    WHERE t.batched_background_migration_job_id = j.id
      AND t.created_at >= @since
      AND (t.batched_background_migration_job_id, t.id) > (@after_job_id, @after_id)
    ORDER BY t.id
    LIMIT @page_size
) AS l
WHERE (j.batched_background_migration_id, j.id) >= (@migration_id, @after_job_id)
  AND j.batched_background_migration_id <= @migration_id
ORDER BY j.batched_background_migration_id, j.id, l.id
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

-- name: SettingChangeList :many
-- The changes of the settings of a migration, in order.
-- Called by: control.(*Control).SettingChanges.
-- Index: setting_changes_migration_idx.
-- Locks: nothing.
SELECT *
FROM bbm.setting_changes AS s
WHERE s.batched_background_migration_id = @migration_id::bigint
ORDER BY s.id;
