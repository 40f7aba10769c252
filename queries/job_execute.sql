-- name: JobFence :one
-- Proves that the job is still ours and stands where we think, and holds it for this transaction. No row: fenced off, roll back.
-- The work that follows is planned for its range (our own statements keep their generic plans) and waits for locks as short as a run may.
-- Called by: runner.(*Executor).subBatch, first in the transaction of each sub-batch.
-- Index: batched_background_migration_jobs_pkey.
-- Locks: the row of the job, until the commit of the sub-batch.
SELECT
    pg_current_xact_id()::text AS transaction_id,
    set_config('plan_cache_mode', 'force_custom_plan', true) AS plan_cache_mode,
    set_config('lock_timeout', @lock_timeout::text, true) AS lock_timeout
FROM bbm.batched_background_migration_jobs AS j
WHERE j.id = @job_id
  AND j.status = 'running'
  AND j.claims = @claims
  AND j.progress_key IS NOT DISTINCT FROM sqlc.narg('progress_key')::text[]
ORDER BY j.id
FOR UPDATE;

-- name: JobProgress :one
-- Moves the progress with the data that it counts, and reads back whether to go on. Raises BBM01 when the job, the lock of the slot or the
-- transaction that JobFence saw is no longer ours, so that a COMMIT sent behind it cannot take effect. The lock is held twice, so that giving
-- it back once proves that it is ours, without a look at the lock table of the server. The commit waits for the disk unless both allow it not to.
-- Called by: runner.(*Executor).subBatch, last before COMMIT.
-- Index: batched_background_migration_jobs_pkey, batched_background_migrations_pkey.
-- Locks: the row of the job, until the commit of the sub-batch.
WITH held_slot AS MATERIALIZED (
    SELECT
        pg_advisory_unlock(1650617601, @slot::integer) AS was_held,
        pg_try_advisory_lock(1650617601, @slot::integer) AS is_held
), progressed_job AS (
    UPDATE bbm.batched_background_migration_jobs AS j
    SET
        progress_key = @until_key::text[],
        processed_rows = j.processed_rows + @processed_rows::bigint,
        affected_rows = j.affected_rows + @affected_rows::bigint,
        stalls = 0,
        updated_at = now()
    WHERE j.id = @job_id
      AND j.status = 'running'
      AND j.claims = @claims
      AND pg_current_xact_id_if_assigned()::text = @transaction_id::text
      AND (SELECT h.was_held AND h.is_held FROM held_slot AS h)
    RETURNING j.id
)

SELECT
    bbm.assert_fence(EXISTS (SELECT FROM progressed_job)) AS fenced,
    bbm.assert_target(m.table_name, m.table_oid) AS is_target,
    f.execution_enabled,
    m.status,
    coalesce(m.on_hold_until > now(), false)::boolean AS is_on_hold,
    m.pause,
    m.sub_batch_size,
    set_config(
        'synchronous_commit', CASE WHEN m.asynchronous_commit AND @may_commit_asynchronously::boolean THEN 'off' ELSE 'on' END, true
    ) AS synchronous_commit
FROM bbm.batched_background_migrations AS m
CROSS JOIN bbm.fleet_settings AS f
WHERE m.id = @migration_id;

-- name: JobCheck :one
-- What JobProgress reads back, again after a pause between sub-batches. No row: the job is no longer ours.
-- Called by: runner.(*Executor).lookAgain.
-- Index: batched_background_migration_jobs_pkey, batched_background_migrations_pkey.
-- Locks: nothing.
SELECT
    f.execution_enabled,
    m.status,
    coalesce(m.on_hold_until > now(), false)::boolean AS is_on_hold,
    m.pause
FROM bbm.batched_background_migration_jobs AS j
JOIN bbm.batched_background_migrations AS m ON m.id = j.batched_background_migration_id
CROSS JOIN bbm.fleet_settings AS f
WHERE j.id = @job_id
  AND j.status = 'running'
  AND j.claims = @claims;
