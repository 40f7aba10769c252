-- name: MigrationListClaimable :many
-- Migrations in which there is something to do now with a work that the caller has (works: "name:checksum"), least recently claimed first: what is listed
-- can be claimed, but for races. An empty list of names stands for all. The caller skips what it has just found locked, or has tried.
-- Called by: runner.(*Executor).lookAround, runner.(*Executor).claim.
-- Index: batched_background_migrations_unfinished_idx, batched_background_migrations_running_root_table_idx, batched_background_migrations_pkey,
-- batched_background_migration_jobs_running_slot_idx, batched_background_migration_jobs_unsucceeded_idx,
-- batched_background_migration_jobs_waiting_idx, batched_background_migration_verifications_pkey.
-- Locks: nothing; the lock table is read once, and only where a proof waits. What a race can change is checked again by MigrationLockClaimable.
WITH executing_migration AS MATERIALIZED (
    SELECT o.id, o.root_table_oid
    FROM bbm.batched_background_migration_jobs AS j
    CROSS JOIN LATERAL (
        SELECT u.id, u.root_table_oid
        FROM bbm.batched_background_migrations AS u
        WHERE u.id = j.batched_background_migration_id
        LIMIT 1
    ) AS o
    WHERE j.status = 'running'
      AND j.slot IS NOT NULL
)

SELECT m.*
FROM (
    -- Sorted first, so that what costs more is asked only until enough are found.
    SELECT c.*
    FROM bbm.batched_background_migrations AS c
    WHERE c.status IN ('active', 'running')
      AND c.max_key IS NOT NULL
      AND c.work_name || ':' || c.work_checksum = ANY (@works::text[])
      AND (cardinality(@only_names::text[]) = 0 OR c.name = ANY (@only_names::text[]))
      AND c.id <> ALL (@skipped_ids::bigint[])
      AND (c.on_hold_until IS NULL OR c.on_hold_until <= coalesce(sqlc.narg('now')::timestamptz, now()))
    ORDER BY c.last_claimed_at NULLS FIRST, c.id
) AS m
WHERE NOT EXISTS (
    SELECT
    FROM bbm.batched_background_migrations AS o
    WHERE o.root_table_oid = m.root_table_oid
      AND o.status = 'running'
      AND o.id <> m.id
)
  -- One that was paused keeps its table until its last sub-batch has ended.
  AND NOT EXISTS (
      SELECT
      FROM executing_migration AS x
      WHERE x.root_table_oid = m.root_table_oid
        AND x.id <> m.id
  )
  AND CASE
      WHEN m.frontier_key IS DISTINCT FROM m.max_key OR EXISTS (
          SELECT
          FROM bbm.batched_background_migration_jobs AS j
          WHERE j.batched_background_migration_id = m.id
            AND j.finished_at IS NULL
      )
          THEN (m.last_claimed_at IS NULL OR m.last_claimed_at + m.job_interval <= coalesce(sqlc.narg('now')::timestamptz, now()))
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
              AND m.parallelism > (
                  SELECT count(*)
                  FROM bbm.batched_background_migration_jobs AS j
                  WHERE j.batched_background_migration_id = m.id
                    AND j.status = 'running'
                    AND j.finished_at IS NULL
              )
      WHEN m.remaining_predicate IS NOT NULL
          -- A walk that proves it done rests between its pieces, and waits at first for older transactions to end.
          THEN (m.last_claimed_at IS NULL OR m.last_claimed_at + m.pause <= coalesce(sqlc.narg('now')::timestamptz, now()))
              AND NOT EXISTS (
                  SELECT
                  FROM bbm.batched_background_migration_verifications AS v
                  WHERE v.batched_background_migration_id = m.id
                    AND v.finished_at IS NULL
                    AND v.statement IS NULL
                    AND v.awaited_transactions && (SELECT bbm.open_transactions())
              )
      ELSE true
  END
ORDER BY m.last_claimed_at NULLS FIRST, m.id
LIMIT 20;

-- name: MigrationListLocked :many
-- Unfinished migrations of which others have locked the row, or the table so that it cannot even be read. Asked once one was met: so that a thousand need not
-- be tried one by one.
-- Called by: runner.(*Executor).postponeLocked.
-- Index: batched_background_migrations_unfinished_idx.
-- Locks: the rows that are free, until the end of the statement; the lock table is read once.
WITH free_migration AS MATERIALIZED (
    SELECT m.id
    FROM bbm.batched_background_migrations AS m
    WHERE m.status IN ('active', 'running')
    ORDER BY m.id
    FOR SHARE SKIP LOCKED
), locked_table AS MATERIALIZED (
    SELECT l.relation
    FROM pg_catalog.pg_locks AS l
    WHERE l.locktype = 'relation'
      AND l.mode = 'AccessExclusiveLock'
      AND l.pid IS DISTINCT FROM pg_backend_pid()
      AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = current_database())
)

SELECT m.id
FROM bbm.batched_background_migrations AS m
WHERE m.status IN ('active', 'running')
  AND (
      m.id NOT IN (SELECT f.id FROM free_migration AS f)
      OR m.table_oid IN (SELECT t.relation FROM locked_table AS t)
  );

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

-- name: MigrationLookAhead :one
-- What an idle caller has before it: how many migrations it could still bring forward, with works that it has (or unpinned ones by name), not paused, on
-- hold or ended; whether one of them waits for older transactions; and how soon the next moment comes at which one is due by the clock: the end of a hold or
-- an interval, the next attempt of a job, the end of a pause of a proof. at_most where none is known.
-- Called by: runner.(*Executor).lookAhead.
-- Index: batched_background_migrations_unfinished_idx, batched_background_migration_jobs_unsucceeded_idx, batched_background_migration_jobs_waiting_idx,
-- batched_background_migration_verifications_pkey.
-- Locks: nothing.
SELECT
    (count(*) FILTER (WHERE m.on_hold_until IS NULL OR m.on_hold_until <= now()))::bigint AS unsettled,
    coalesce(bool_or(
        CASE
            WHEN m.max_key IS NULL THEN cardinality(m.awaited_transactions) > 0
            WHEN m.remaining_predicate IS NOT NULL THEN EXISTS (
                SELECT
                FROM bbm.batched_background_migration_verifications AS v
                WHERE v.batched_background_migration_id = m.id
                  AND v.finished_at IS NULL
                  AND v.statement IS NULL
                  AND cardinality(v.awaited_transactions) > 0
            )
        END
    ), false)::boolean AS is_awaiting,
    -- Nothing due is no moment, and greatest() takes null for nothing: so that comes first.
    least(
        greatest(
            coalesce(
                min(d.due_at) FILTER (WHERE d.due_at > now() - @looked_ago::interval AND isfinite(d.due_at)) - now(),
                @at_most::interval
            ),
            interval '0'
        ),
        @at_most::interval
    )::interval AS due_in
FROM bbm.batched_background_migrations AS m
CROSS JOIN LATERAL (
    SELECT greatest(
        m.on_hold_until,
        CASE
            WHEN m.max_key IS NULL THEN NULL
            WHEN m.frontier_key IS DISTINCT FROM m.max_key THEN m.last_claimed_at + m.job_interval
            WHEN EXISTS (
                SELECT
                FROM bbm.batched_background_migration_jobs AS j
                WHERE j.batched_background_migration_id = m.id
                  AND j.finished_at IS NULL
            ) THEN greatest(
                m.last_claimed_at + m.job_interval,
                (
                    SELECT j.next_attempt_at
                    FROM bbm.batched_background_migration_jobs AS j
                    WHERE j.batched_background_migration_id = m.id
                      AND j.status IN ('pending', 'failed')
                      AND j.next_attempt_at > now() - @looked_ago::interval
                    ORDER BY j.next_attempt_at
                    LIMIT 1
                )
            )
            WHEN m.remaining_predicate IS NOT NULL THEN m.last_claimed_at + m.pause
        END
    ) AS due_at
) AS d
WHERE m.status IN ('active', 'running')
  AND (
      m.work_name || ':' || m.work_checksum = ANY (@works::text[])
      OR (m.work_checksum IS NULL AND m.work_name = ANY (@work_names::text[]))
  )
  AND (cardinality(@only_names::text[]) = 0 OR m.name = ANY (@only_names::text[]));

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
