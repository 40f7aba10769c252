-- name: MigrationListClaimable :many
-- Migrations in which there is something to do now with a work that the caller has (works: "name:checksum"), least recently claimed first.
-- An empty list of names stands for all.
-- Called by: runner.(*Executor).lookAround.
-- Index: batched_background_migrations_claimable_idx, batched_background_migrations_running_root_table_idx; jobs by
-- batched_background_migration_jobs_waiting_idx and batched_background_migration_jobs_unsucceeded_idx.
-- Locks: nothing; what another claim can change in the meantime is checked again by MigrationLockClaimable.
SELECT *
FROM bbm.batched_background_migrations AS m
WHERE m.status IN ('active', 'running')
  AND m.max_key IS NOT NULL
  AND m.work_name || ':' || m.work_checksum = ANY (@works::text[])
  AND (cardinality(@only_names::text[]) = 0 OR m.name = ANY (@only_names::text[]))
  AND (m.on_hold_until IS NULL OR m.on_hold_until <= coalesce(sqlc.narg('now')::timestamptz, now()))
  AND NOT EXISTS (
      SELECT
      FROM bbm.batched_background_migrations AS o
      WHERE o.root_table_oid = m.root_table_oid
        AND o.status = 'running'
        AND o.id <> m.id
  )
  AND (
      (
          (m.last_claimed_at IS NULL OR m.last_claimed_at + m.job_interval <= coalesce(sqlc.narg('now')::timestamptz, now()))
          AND (
              m.frontier_key IS DISTINCT FROM m.max_key
              OR EXISTS (
                  SELECT
                  FROM bbm.batched_background_migration_jobs AS j
                  WHERE j.batched_background_migration_id = m.id
                    AND j.status IN ('pending', 'failed')
                    AND j.next_attempt_at <= coalesce(sqlc.narg('now')::timestamptz, now())
              )
          )
      )
      OR (
          m.frontier_key = m.max_key
          -- A walk that proves it done rests between its pieces; there is nothing else to rest for.
          AND (
              m.remaining_predicate IS NULL
              OR m.last_claimed_at IS NULL
              OR m.last_claimed_at + m.pause <= coalesce(sqlc.narg('now')::timestamptz, now())
          )
          AND NOT EXISTS (
              SELECT
              FROM bbm.batched_background_migration_jobs AS j
              WHERE j.batched_background_migration_id = m.id
                AND j.finished_at IS NULL
          )
      )
  )
ORDER BY m.last_claimed_at NULLS FIRST, m.id
LIMIT 20;

-- name: MigrationLockClaimable :one
-- Holds a migration for a claim with a work in this version. No row: it may not run (any more), another version was adopted, another holds its
-- table, or a job of another still runs on it.
-- Called by: runner.(*Executor).claimFrom, which holds the lock of the table (TableLock) since an earlier statement.
-- Index: batched_background_migrations_pkey, batched_background_migrations_running_root_table_idx; jobs by
-- batched_background_migration_jobs_unsucceeded_idx, those of others by batched_background_migration_jobs_running_slot_idx.
-- Locks: the row of the migration, until commit.
SELECT
    sqlc.embed(m),
    (
        SELECT count(*)
        FROM bbm.batched_background_migration_jobs AS j
        WHERE j.batched_background_migration_id = m.id
          AND j.status = 'running'
          AND j.finished_at IS NULL
    )::bigint AS running_jobs,
    coalesce(m.last_claimed_at + m.job_interval <= coalesce(sqlc.narg('now')::timestamptz, now()), true)::boolean AS is_due,
    coalesce(to_regclass(m.table_name)::oid = m.table_oid, false)::boolean AS is_target
FROM bbm.batched_background_migrations AS m
WHERE m.id = @migration_id
  AND m.work_checksum = @work_checksum::text
  AND m.status IN ('active', 'running')
  AND (m.on_hold_until IS NULL OR m.on_hold_until <= coalesce(sqlc.narg('now')::timestamptz, now()))
  AND NOT EXISTS (
      SELECT
      FROM bbm.batched_background_migrations AS o
      WHERE o.root_table_oid = m.root_table_oid
        AND o.status = 'running'
        AND o.id <> m.id
  )
  AND NOT EXISTS (
      SELECT
      FROM bbm.batched_background_migration_jobs AS j
      WHERE j.status = 'running'
        AND j.slot IS NOT NULL
        AND j.batched_background_migration_id <> m.id
        -- Not a join, which reads all migrations where more running jobs are expected than there are.
        AND m.root_table_oid = (
            SELECT o.root_table_oid
            FROM bbm.batched_background_migrations AS o
            WHERE o.id = j.batched_background_migration_id
        )
  )
ORDER BY m.id
FOR UPDATE OF m;

-- name: MigrationStart :one
-- Gives a migration its table at the first claim after it was enqueued, resumed or retried. No row: it was not active.
-- Called by: runner.(*Executor).claimFrom, which holds the row of the migration.
-- Index: batched_background_migrations_pkey.
-- Locks: the row of the migration, until commit.
WITH started_migration AS (
    UPDATE bbm.batched_background_migrations AS m
    SET
        status = 'running',
        started_at = coalesce(m.started_at, sqlc.narg('now')::timestamptz, now()),
        updated_at = coalesce(sqlc.narg('now')::timestamptz, now())
    WHERE m.id = @migration_id
      AND m.status = 'active'
    RETURNING m.*
), logged_transition AS (
    INSERT INTO bbm.batched_background_migration_transition_logs (
        batched_background_migration_id, created_at, previous_status, next_status, changed_by
    )
    SELECT m.id, m.updated_at, 'active', m.status, @changed_by::text
    FROM started_migration AS m
)

SELECT m.id
FROM started_migration AS m;

-- name: MigrationFinish :one
-- Ends a migration whose whole range is cut and whose jobs have all succeeded, and that asks for no proof (see MigrationProve) or has one: then rows
-- of its quarantine were tried again, and looked at one by one. No row: not so.
-- Called by: runner.(*Executor).claimFrom, which holds the row of the migration.
-- Index: batched_background_migrations_pkey; jobs by batched_background_migration_jobs_unsucceeded_idx.
-- Locks: the row of the migration, until commit.
WITH locked_migration AS (
    SELECT m.id, m.status
    FROM bbm.batched_background_migrations AS m
    WHERE m.id = @migration_id
      AND m.status IN ('active', 'running')
      AND m.frontier_key = m.max_key
      AND (m.remaining_predicate IS NULL OR m.verified_at IS NOT NULL)
      AND NOT EXISTS (
          SELECT
          FROM bbm.batched_background_migration_jobs AS j
          WHERE j.batched_background_migration_id = m.id
            AND j.finished_at IS NULL
      )
    ORDER BY m.id
    FOR UPDATE OF m
), finished_migration AS (
    UPDATE bbm.batched_background_migrations AS m
    SET
        status = 'finished',
        finished_at = coalesce(sqlc.narg('now')::timestamptz, now()),
        updated_at = coalesce(sqlc.narg('now')::timestamptz, now())
    FROM locked_migration AS l
    WHERE m.id = l.id
    RETURNING m.*
), logged_transition AS (
    INSERT INTO bbm.batched_background_migration_transition_logs (
        batched_background_migration_id, created_at, previous_status, next_status, changed_by, reason
    )
    SELECT
        m.id, m.updated_at, l.status, m.status, @changed_by::text,
        nullif(concat_ws(
            '; ',
            'the proof of ' || m.verified_at || ' stands, and the rows tried again were looked at one by one',
            'left out, in quarantine: ' || nullif(m.quarantined_rows, 0)
        ), '')
    FROM finished_migration AS m
    JOIN locked_migration AS l ON l.id = m.id
)

SELECT
    m.quarantined_rows,
    m.verified_at
FROM finished_migration AS m;

-- name: MigrationHold :exec
-- Keeps a migration from being claimed for a while, with the reason; its status and its table stay.
-- Called by: runner.(*Executor).record, runner.(*Executor).setAside, runner.(*Executor).slowDown.
-- Index: batched_background_migrations_pkey.
-- Locks: the row of the migration, until commit.
UPDATE bbm.batched_background_migrations AS m
SET
    on_hold_until = coalesce(sqlc.narg('now')::timestamptz, now()) + @hold_for::interval,
    hold_reason = left(@hold_reason::text, 1000),
    updated_at = coalesce(sqlc.narg('now')::timestamptz, now())
WHERE m.id = @migration_id
  AND m.status IN ('active', 'running');

-- name: MigrationCountUnsettled :one
-- How many migrations the caller could still bring forward: with works that it has (or unpinned ones by name), not paused, on hold or ended.
-- Called by: runner.(*Executor).isSettled.
-- Index: batched_background_migrations_claimable_idx.
-- Locks: nothing.
SELECT count(*)::bigint AS migrations
FROM bbm.batched_background_migrations AS m
WHERE m.status IN ('active', 'running')
  AND (
      m.work_name || ':' || m.work_checksum = ANY (@works::text[])
      OR (m.work_checksum IS NULL AND m.work_name = ANY (@work_names::text[]))
  )
  AND (cardinality(@only_names::text[]) = 0 OR m.name = ANY (@only_names::text[]))
  AND (m.on_hold_until IS NULL OR m.on_hold_until <= coalesce(sqlc.narg('now')::timestamptz, now()));

-- name: MigrationListFailed :many
-- Which of these migrations have failed, by name.
-- Called by: runner.(*Runner).failures.
-- Index: batched_background_migrations_pkey.
-- Locks: nothing.
SELECT m.name
FROM bbm.batched_background_migrations AS m
WHERE m.id = ANY (@migration_ids::bigint[])
  AND m.status = 'failed'
ORDER BY m.name;
