-- name: MigrationGet :one
-- A migration by its name; no row: there is none.
-- Called by: control.(*Control).get.
-- Index: batched_background_migrations_name_key.
-- Locks: nothing.
SELECT *
FROM bbm.batched_background_migrations AS m
WHERE m.name = @name;

-- name: MigrationListNames :many
-- The names of the migrations in one of these statuses, oldest first; an empty list of statuses stands for all.
-- Called by: control.(*Control).Names, control.(*Control).Unfinished.
-- Index: batched_background_migrations_pkey.
-- Locks: nothing.
SELECT m.name
FROM bbm.batched_background_migrations AS m
WHERE cardinality(@statuses::text[]) = 0
   OR m.status = ANY ((@statuses::text[])::bbm.migration_status[])
ORDER BY m.id;

-- name: MigrationListFacts :many
-- Migrations with all that tells how far they are, how fast they go and what they wait for; an empty list of names stands for all.
-- Succeeded jobs are counted in the row already: only the others are looked at, and the last ten for the rate.
-- Called by: control.(*Control).Status.
-- Index: none for migrations: reads all of batched_background_migrations. Jobs by batched_background_migration_jobs_running_slot_idx,
-- batched_background_migration_jobs_unsucceeded_idx, batched_background_migration_jobs_waiting_idx and batched_background_migration_jobs_migration_idx; history
-- by batched_background_migration_transition_logs_migration_idx, walks by batched_background_migration_verifications_pkey.
-- Locks: nothing; the lock table is read once.
WITH held_lock AS MATERIALIZED (
    SELECT l.locktype, l.database, l.virtualxid::text AS virtualxid, l.classid::bigint AS class, l.objid::bigint AS key, l.objsubid, l.pid
    FROM pg_catalog.pg_locks AS l
    WHERE l.locktype IN ('advisory', 'virtualxid')
      AND l.granted
), bbm_lock AS MATERIALIZED (
    SELECT h.class, h.key, h.pid
    FROM held_lock AS h
    WHERE h.locktype = 'advisory'
      AND h.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = current_database())
      AND h.class IN (1650617601, 1650617603, 1650617604)
      AND h.objsubid = 2
), open_transaction AS MATERIALIZED (
    SELECT h.virtualxid AS transaction, format('process %s', h.pid) AS owner
    FROM held_lock AS h
    WHERE h.locktype = 'virtualxid'
    UNION ALL
    SELECT 'prepared ' || p.transaction::text, format('prepared transaction %L', p.gid)
    FROM pg_catalog.pg_prepared_xacts AS p
), running_job AS MATERIALIZED (
    SELECT j.batched_background_migration_id AS migration_id, j.slot
    FROM bbm.batched_background_migration_jobs AS j
    WHERE j.status = 'running'
      AND j.slot IS NOT NULL
), table_user AS MATERIALIZED (
    SELECT m.id, m.name, m.root_table_oid
    FROM bbm.batched_background_migrations AS m
    WHERE m.status = 'running'
       OR m.id IN (SELECT r.migration_id FROM running_job AS r)
), fleet AS MATERIALIZED (
    SELECT
        f.execution_enabled,
        f.changed_by,
        f.reason,
        f.slots,
        (SELECT count(DISTINCT b.pid) FROM bbm_lock AS b WHERE b.class = 1650617604 AND b.key = 1) AS enabled_runners,
        (SELECT count(DISTINCT b.pid) FROM bbm_lock AS b WHERE b.class = 1650617604 AND b.key = 0) AS disabled_runners,
        (SELECT count(DISTINCT b.pid) FROM bbm_lock AS b WHERE b.class = 1650617604 AND b.key = 2) AS read_only_runners,
        (SELECT count(DISTINCT b.key) FROM bbm_lock AS b WHERE b.class = 1650617601 AND b.key BETWEEN 1 AND f.slots) AS locked_slots
    FROM bbm.fleet_settings AS f
    WHERE f.id
)

SELECT
    sqlc.embed(m),
    now()::timestamptz AS observed_at,
    f.execution_enabled,
    f.changed_by AS fleet_changed_by,
    f.reason AS fleet_reason,
    f.slots,
    f.enabled_runners::bigint AS enabled_runners,
    f.disabled_runners::bigint AS disabled_runners,
    f.read_only_runners::bigint AS read_only_runners,
    f.locked_slots::bigint AS locked_slots,
    u.pending_jobs,
    u.running_jobs,
    u.failed_jobs,
    u.processed_rows AS open_processed_rows,
    u.affected_rows AS open_affected_rows,
    (
        SELECT count(*)
        FROM running_job AS r
        WHERE r.migration_id = m.id
          AND r.slot IN (SELECT b.key FROM bbm_lock AS b WHERE b.class = 1650617601)
    )::bigint AS executing_jobs,
    ARRAY(
        SELECT DISTINCT b.pid
        FROM running_job AS r
        JOIN bbm_lock AS b ON b.key = r.slot
        WHERE r.migration_id = m.id
          AND b.class = 1650617601
        ORDER BY b.pid
    )::integer[] AS executing_pids,
    u.moved_at,
    n.next_attempt_at,
    EXISTS (
        SELECT
        FROM bbm_lock AS b
        WHERE b.class = 1650617603
          AND b.key = (bbm.work_lock_key(m.work_name, coalesce(m.work_checksum, ''))::bigint & 4294967295)
    ) AS has_runner_with_work,
    EXISTS (
        SELECT
        FROM bbm_lock AS b
        WHERE b.class = 1650617603
          AND b.key = (bbm.work_lock_key(m.work_name, 'broken')::bigint & 4294967295)
    ) AS has_runner_with_broken_work,
    ARRAY(
        SELECT o.owner
        FROM open_transaction AS o
        WHERE o.transaction = ANY (CASE WHEN m.max_key IS NULL THEN m.awaited_transactions ELSE w.awaited_transactions END)
        ORDER BY o.owner
    )::text[] AS awaited,
    coalesce((
        SELECT t.name
        FROM table_user AS t
        WHERE t.root_table_oid = m.root_table_oid
          AND t.id <> m.id
        ORDER BY t.id
        LIMIT 1
    ), '')::text AS table_user,
    coalesce(c.changed_by, '')::text AS changed_by,
    c.reason AS change_reason,
    coalesce(b.id, 0)::bigint AS failed_row_job_id,
    coalesce(b.attempts, 0)::integer AS failed_row_attempts,
    b.exception_key AS failed_row_key,
    b.exception_class AS failed_row_class,
    b.exception_message AS failed_row_message,
    b.exception_constraint AS failed_row_constraint,
    s.recent_rows,
    s.recent_seconds,
    coalesce(w.pass, 0)::integer AS walk_pass,
    coalesce(w.walked_rows, 0)::bigint AS walked_rows,
    coalesce(w.expected_rows, 0)::bigint AS walk_expected_rows,
    coalesce(w.remaining_rows, 0)::bigint AS walk_remaining_rows,
    coalesce(w.updated_at, m.updated_at)::timestamptz AS walk_updated_at
FROM bbm.batched_background_migrations AS m
CROSS JOIN fleet AS f
CROSS JOIN LATERAL (
    SELECT
        count(*) FILTER (WHERE j.status = 'pending')::bigint AS pending_jobs,
        count(*) FILTER (WHERE j.status = 'running')::bigint AS running_jobs,
        count(*) FILTER (WHERE j.status = 'failed')::bigint AS failed_jobs,
        coalesce(sum(j.processed_rows) FILTER (WHERE j.pass = 0), 0)::bigint AS processed_rows,
        coalesce(sum(j.affected_rows), 0)::bigint AS affected_rows,
        coalesce(max(j.updated_at) FILTER (WHERE j.status = 'running'), now())::timestamptz AS moved_at
    FROM bbm.batched_background_migration_jobs AS j
    WHERE j.batched_background_migration_id = m.id
      AND j.finished_at IS NULL
) AS u
LEFT JOIN LATERAL (
    SELECT j.next_attempt_at
    FROM bbm.batched_background_migration_jobs AS j
    WHERE j.batched_background_migration_id = m.id
      AND j.status IN ('pending', 'failed')
    ORDER BY j.next_attempt_at, j.id
    LIMIT 1
) AS n ON true
LEFT JOIN LATERAL (
    SELECT t.changed_by, t.reason
    FROM bbm.batched_background_migration_transition_logs AS t
    WHERE t.batched_background_migration_id = m.id
    ORDER BY t.id DESC
    LIMIT 1
) AS c ON true
LEFT JOIN LATERAL (
    SELECT j.id, j.attempts, j.exception_key, j.exception_class, j.exception_message, j.exception_constraint
    FROM bbm.batched_background_migration_jobs AS j
    WHERE j.batched_background_migration_id = m.id
      AND j.status = 'failed'
      AND j.finished_at IS NULL
      AND j.exception_key IS NOT NULL
    ORDER BY j.id
    LIMIT 1
) AS b ON true
LEFT JOIN LATERAL (
    -- The walk under way, if any; what it waits for counts until it has begun.
    SELECT
        v.pass,
        v.walked_rows,
        v.expected_rows,
        v.remaining_rows,
        v.updated_at,
        CASE WHEN v.statement IS NULL THEN v.awaited_transactions END AS awaited_transactions
    FROM bbm.batched_background_migration_verifications AS v
    WHERE v.batched_background_migration_id = m.id
      AND v.finished_at IS NULL
      AND m.status IN ('paused', 'active', 'running')
    ORDER BY v.pass DESC
    LIMIT 1
) AS w ON true
CROSS JOIN LATERAL (
    SELECT
        coalesce(sum(r.processed_rows), 0)::bigint AS recent_rows,
        coalesce(extract(EPOCH FROM max(r.updated_at) - min(r.started_at)), 0)::double precision AS recent_seconds
    FROM (
        SELECT j.processed_rows, j.started_at, j.updated_at
        FROM bbm.batched_background_migration_jobs AS j
        -- Rows are compared so that no plan reads the newer jobs of other migrations.
        WHERE (j.batched_background_migration_id, j.id) <= (m.id, 9223372036854775807)
          AND j.batched_background_migration_id >= m.id
          AND m.status = 'running'
        ORDER BY j.batched_background_migration_id DESC, j.id DESC
        LIMIT 10
    ) AS r
) AS s
WHERE cardinality(@names::text[]) = 0
   OR m.name = ANY (@names::text[])
ORDER BY m.id;
