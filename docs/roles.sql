-- Three roles for bbm-runner and the rights that each needs. Run it by psql, in the database of the migrations, as the
-- owner of the schema bbm (the role that ran `bbm-runner schema up`) or a superuser; and again after each `schema up`
-- that applied something, since new tables come without grants. It may be repeated.

SELECT 'CREATE ROLE bbm_viewer NOLOGIN' WHERE to_regrole('bbm_viewer') IS NULL \gexec
SELECT 'CREATE ROLE bbm_operator NOLOGIN' WHERE to_regrole('bbm_operator') IS NULL \gexec
SELECT 'CREATE ROLE bbm_runner LOGIN' WHERE to_regrole('bbm_runner') IS NULL \gexec

BEGIN;

SET LOCAL client_min_messages = warning;

-- Looks: status, jobs, logs, wait, schema status; bbm.assert_finished from SQL.
GRANT USAGE ON SCHEMA bbm TO bbm_viewer;
GRANT SELECT ON ALL TABLES IN SCHEMA bbm TO bbm_viewer;
GRANT EXECUTE ON FUNCTION bbm.work_lock_key(text, text), bbm.changed_by() TO bbm_viewer;
GRANT EXECUTE ON FUNCTION bbm.assert_finished(text), bbm.assert_finished(text, boolean) TO bbm_viewer;
-- Tables of later versions, too; what else roles need of those stands here then.
SELECT format('ALTER DEFAULT PRIVILEGES FOR ROLE %s IN SCHEMA bbm GRANT SELECT ON TABLES TO bbm_viewer', nspowner::regrole)
FROM pg_namespace WHERE nspname = 'bbm' \gexec

-- Of the history nobody writes which role's session made a change, nor in what order: the database does. (Earlier versions of this file granted all columns.)
REVOKE INSERT ON bbm.batched_background_migration_job_transition_logs, bbm.batched_background_migration_transition_logs FROM bbm_operator, bbm_runner;
GRANT INSERT (
    batched_background_migration_job_id, created_at, previous_status, next_status, attempt,
    exception_class, exception_message, exception_key, exception_constraint
) ON bbm.batched_background_migration_job_transition_logs TO bbm_operator, bbm_runner;
GRANT INSERT (batched_background_migration_id, created_at, previous_status, next_status, changed_by, reason)
ON bbm.batched_background_migration_transition_logs TO bbm_operator, bbm_runner;

-- Acts: enable, disable, pause, resume, cancel, retry, quarantine retry, set, delete; bbm.enqueue from SQL.
-- A table's owner or whoever else may do what the work does can enqueue by the command line, too.
GRANT bbm_viewer TO bbm_operator;
GRANT INSERT, UPDATE, DELETE ON bbm.batched_background_migrations TO bbm_operator;
GRANT INSERT, UPDATE, DELETE ON bbm.batched_background_migration_jobs TO bbm_operator;
GRANT UPDATE ON bbm.batched_background_migration_quarantined_rows TO bbm_operator;
REVOKE UPDATE ON bbm.fleet_settings FROM bbm_operator;
GRANT EXECUTE ON FUNCTION
    bbm.enable(text), bbm.disable(text), bbm.set_fleet(text, text, text), bbm.set(text, text, text, text),
    bbm.pause(text, text), bbm.resume(text, text), bbm.cancel(text, text), bbm.retry(text, text), bbm.open_transactions(),
    bbm.enqueue(text, regclass, text, jsonb, integer, integer, boolean, interval, interval, integer, integer, text, integer)
TO bbm_operator;

-- Executes: run. It neither creates nor deletes migrations, and changes no setting of the fleet.
GRANT bbm_viewer TO bbm_runner;
-- It updates the columns that its queries set, and no other: so it cannot give a job of one migration to another, nor change what one was enqueued with.
-- (Earlier versions of this file granted all columns.)
REVOKE UPDATE ON
    bbm.batched_background_migrations, bbm.batched_background_migration_jobs,
    bbm.batched_background_migration_quarantined_rows, bbm.batched_background_migration_verifications
FROM bbm_runner;
GRANT INSERT ON
    bbm.batched_background_migration_jobs, bbm.batched_background_migration_quarantined_rows, bbm.batched_background_migration_verifications
TO bbm_runner;
GRANT UPDATE (
    affected_rows, awaited_transactions, batch_size, cursor_columns, failure_error_code, failure_message, finished_at,
    frontier_key, hold_reason, last_claimed_at, learned_sub_batch_size, max_key, on_hold_until, processed_rows,
    quarantined_rows, remaining_predicate, row_set, started_at, status, sub_batch_size, succeeded_jobs,
    total_tuple_count, updated_at, verified_at, verified_rows, verified_statement, work_checksum
) ON bbm.batched_background_migrations TO bbm_runner;
GRANT UPDATE (
    affected_rows, attempts, claims, exception_class, exception_constraint, exception_key, exception_message,
    finished_at, next_attempt_at, processed_rows, progress_key, runner, slot, stalls, started_at, status, updated_at
) ON bbm.batched_background_migration_jobs TO bbm_runner;
GRANT UPDATE (
    batched_background_migration_job_id, exception_class, exception_constraint, exception_message, failures, mended_at,
    retry_job_id, updated_at
) ON bbm.batched_background_migration_quarantined_rows TO bbm_runner;
GRANT UPDATE (
    awaited_transactions, expected_rows, finished_at, progress_key, remaining_keys, remaining_rows, statement,
    until_key, updated_at, walked_rows, work_checksum
) ON bbm.batched_background_migration_verifications TO bbm_runner;
GRANT EXECUTE ON FUNCTION bbm.assert_fence(boolean) TO bbm_runner;
GRANT EXECUTE ON FUNCTION bbm.assert_target(text, oid) TO bbm_runner;
GRANT EXECUTE ON FUNCTION bbm.maintain_log(integer), bbm.forget_jobs(integer) TO bbm_runner;
GRANT EXECUTE ON FUNCTION bbm.open_transactions(), bbm.still_awaited(text[]) TO bbm_runner;

COMMIT;
