-- name: RightListMissing :many
-- What a role that runs migrations lacks of our tables and functions, each as one would grant it; none where it may run.
-- Called by: control.(*Control).CheckRunnerRights.
-- Index: none; the rights are listed here and looked up in the catalog.
-- Locks: nothing.
SELECT format('%s ON %s', r.privilege, r.object)::text AS missing
FROM (
    VALUES
    ('SELECT', 'bbm.fleet_settings'),
    ('UPDATE', 'bbm.batched_background_migrations'),
    ('INSERT', 'bbm.batched_background_migration_jobs'),
    ('UPDATE', 'bbm.batched_background_migration_jobs'),
    ('INSERT', 'bbm.batched_background_migration_quarantined_rows'),
    ('UPDATE', 'bbm.batched_background_migration_quarantined_rows'),
    ('INSERT', 'bbm.batched_background_migration_verifications'),
    ('UPDATE', 'bbm.batched_background_migration_verifications'),
    ('INSERT', 'bbm.batched_background_migration_job_transition_logs'),
    ('INSERT', 'bbm.batched_background_migration_transition_logs')
) AS r (privilege, object)
-- Into the logs a role may write some columns alone.
WHERE NOT has_any_column_privilege(r.object, r.privilege)
UNION ALL
SELECT format('EXECUTE ON FUNCTION %s', r.object)::text
FROM (
    VALUES
    ('bbm.assert_fence(boolean)'),
    ('bbm.assert_target(text, oid)'),
    ('bbm.open_transactions()'),
    ('bbm.still_awaited(text[])'),
    ('bbm.work_lock_key(text, text)'),
    ('bbm.maintain_log(integer)'),
    ('bbm.forget_jobs(integer)')
) AS r (object)
WHERE NOT has_function_privilege(r.object, 'EXECUTE');
