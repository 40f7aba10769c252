-- name: SlotTryLock :one
-- Takes the advisory lock of a slot for the session, twice (see JobProgress); false when another runner holds it.
-- Called by: runner.(*Executor).takeSlot, runner.(*Executor).recoverLostJobs.
-- Index: none.
-- Locks: advisory (1650617601, slot), until SlotUnlock or the end of the session.
SELECT (
    pg_try_advisory_lock(1650617601, @slot::integer) AND pg_try_advisory_lock(1650617601, @slot::integer)
)::boolean AS locked;

-- name: SlotUnlock :one
-- Gives a slot back; false when this session does not hold it.
-- Called by: runner.(*Executor).releaseSlot, runner.(*Executor).recoverLostJobs.
-- Index: none.
-- Locks: nothing.
SELECT (
    pg_advisory_unlock(1650617601, @slot::integer) AND pg_advisory_unlock(1650617601, @slot::integer)
)::boolean AS unlocked;

-- name: SlotListRunning :many
-- The slots that a job is running in, above the present number of slots too.
-- Called by: runner.(*Executor).lookAround.
-- Index: batched_background_migration_jobs_running_slot_idx.
-- Locks: nothing.
SELECT DISTINCT j.slot::integer AS slot
FROM bbm.batched_background_migration_jobs AS j
WHERE j.status = 'running'
  AND j.slot IS NOT NULL
ORDER BY slot;

-- name: TableLock :exec
-- Makes claims on one table take turns, so that two migrations cannot both find it free.
-- Called by: runner.(*Executor).claimFrom.
-- Index: none.
-- Locks: advisory (1650617602 << 32 | root oid), until commit; waits for another claim on the table, never for its work.
SELECT pg_advisory_xact_lock((1650617602::bigint << 32) | @root_table_oid::bigint);

-- name: RunnerAnnounce :exec
-- Shows to `status` that a runner is connected: key 1 where its parameter is on, 0 where it is off; and 2 while its session is read-only.
-- Called by: runner.(*Executor).serve, runner.(*Executor).awaitWritable.
-- Index: none.
-- Locks: advisory (1650617604, key), shared, until RunnerRetract or the end of the session.
SELECT pg_advisory_lock_shared(1650617604, @key::integer);

-- name: RunnerRetract :one
-- Takes an announcement back.
-- Called by: runner.(*Executor).awaitWritable.
-- Index: none.
-- Locks: nothing.
SELECT pg_advisory_unlock_shared(1650617604, @key::integer) AS retracted;

-- name: RunnerAnnounceWorks :many
-- Shows to `status` which works of unfinished migrations this runner has: "name:checksum", or "name:" where no version is pinned yet; and which it has
-- that are broken: "name:broken".
-- Called by: runner.(*Executor).lookAround, runner.(*Executor).announceWorks.
-- Index: batched_background_migrations_unfinished_idx.
-- Locks: advisory (1650617603, work_lock_key), shared, until the end of the session.
WITH offered_work AS (
    SELECT m.work_name, coalesce(m.work_checksum, '') AS work_checksum
    FROM bbm.batched_background_migrations AS m
    WHERE m.status IN ('active', 'running')
      AND m.work_name || ':' || coalesce(m.work_checksum, '') = ANY (@works::text[])
      AND m.work_name || ':' || coalesce(m.work_checksum, '') <> ALL (@announced_works::text[])
    UNION
    SELECT m.work_name, 'broken'
    FROM bbm.batched_background_migrations AS m
    WHERE m.status IN ('active', 'running')
      AND m.work_name || ':broken' = ANY (@works::text[])
      AND m.work_name || ':broken' <> ALL (@announced_works::text[])
)

SELECT
    (o.work_name || ':' || o.work_checksum)::text AS work,
    pg_try_advisory_lock_shared(1650617603, bbm.work_lock_key(o.work_name, o.work_checksum)) AS locked
FROM offered_work AS o;

-- name: RunnersWake :exec
-- Tells idle runners to look at once and not at their next poll.
-- Called by: control.wake after each change, runner.(*Executor).bound.
-- The function bbm.enqueue does the same.
-- Index: none.
-- Locks: nothing.
SELECT pg_notify('bbm_wake', '');

-- name: RunnersWakeOthers :exec
-- Tells idle runners that a slot is free, where there are migrations which the caller, who has found nothing more to do, has no work for (works:
-- "name:checksum", or "name:" where no version is pinned yet) or leaves to others.
-- Called by: runner.(*Executor).releaseSlot.
-- Index: batched_background_migrations_unfinished_idx.
-- Locks: nothing.
SELECT pg_notify('bbm_wake', '')
FROM (
    SELECT
    FROM bbm.batched_background_migrations AS m
    WHERE m.status IN ('active', 'running')
      AND (m.on_hold_until IS NULL OR m.on_hold_until <= now())
      AND (
          m.work_name || ':' || coalesce(m.work_checksum, '') <> ALL (@works::text[])
          OR (cardinality(@only_names::text[]) > 0 AND m.name <> ALL (@only_names::text[]))
      )
    LIMIT 1
) AS other_migration;

-- name: LogPartitionsMaintain :one
-- Makes or drops one month of the log and says which; no row when there was nothing to do or another runner is at it.
-- Called by: runner.(*Executor).maintain, until there is nothing to do.
-- Index: none.
-- Locks: to make a month, its default partition and, against changes of its definition, the jobs table; to drop one, the whole log; for that moment, and
-- each waited for at most a second.
SELECT p.action::text AS action, p.partition_name::text AS partition_name
FROM bbm.maintain_log(@retention_months::integer) AS p;
