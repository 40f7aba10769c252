-- name: BlockerList :many
-- Whom sessions wait for, and, where holders is true, who holds or awaits a lock on a table or its partitions that keeps everybody from changing its
-- rows; with what is known of them, and what they hold of the table or of one that is waited for. No row: nobody is in the way. A prepared transaction
-- has the pid 0. What the role may not see of others is empty. Who awaits a lock because of these sessions is none.
-- Called by: preview.Sample, from a second connection, while a sample waits; runner.(*Executor).blockedBy, right after a wait was given up;
-- control.(*Control).Status of migrations that stand still.
-- Index: none; reads the lock table. pg_class by its oid.
-- Locks: nothing; the lock table for an instant.
WITH part AS MATERIALIZED (
    SELECT @table_oid::oid AS oid
    UNION
    SELECT t.relid FROM pg_partition_tree(@table_oid) AS t
), relation_lock AS MATERIALIZED (
    SELECT l.pid, l.relation, l.mode, l.granted, l.waitstart
    FROM pg_catalog.pg_locks AS l
    WHERE l.locktype = 'relation'
      AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = current_database())
      AND coalesce(l.pid, 0) <> pg_backend_pid()
      AND coalesce(l.pid, 0) <> ALL (@waiting_pids::integer[])
), table_lock AS MATERIALIZED (
    SELECT l.pid, l.relation, l.granted, l.waitstart
    FROM relation_lock AS l
    WHERE l.relation IN (SELECT p.oid FROM part AS p)
      AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
), blocker AS MATERIALIZED (
    SELECT b.pid
    FROM unnest(@waiting_pids::integer[]) AS w (pid)
    CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS b (pid)
    UNION
    SELECT coalesce(l.pid, 0)
    FROM table_lock AS l
    WHERE @holders::boolean
      AND (l.granted OR NOT pg_blocking_pids(l.pid) && @waiting_pids::integer[])
)

SELECT
    b.pid::integer AS pid,
    coalesce(a.application_name, '')::text AS application_name,
    coalesce(a.usename, '')::text AS user_name,
    coalesce(a.state, '')::text AS state,
    coalesce(extract(EPOCH FROM clock_timestamp() - a.xact_start), 0)::double precision AS transaction_seconds,
    coalesce(q.waitstart, a.xact_start) AS since,
    coalesce((
        SELECT format('%I.%I', n.nspname, c.relname)
        FROM table_lock AS l
        JOIN pg_catalog.pg_class AS c ON c.oid = l.relation
        JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE coalesce(l.pid, 0) = b.pid
        ORDER BY l.relation = @table_oid::oid DESC, l.relation
        LIMIT 1
    ), '')::text AS table_name,
    coalesce(q.blocking_pids, '{}')::integer[] AS queues_behind,
    coalesce((
        SELECT
            w.mode || ' on ' || CASE w.locktype
                WHEN 'relation' THEN format('%I.%I', n.nspname, c.relname)
                WHEN 'transactionid' THEN 'transaction ' || w.transactionid::text
                ELSE concat_ws(' of ', w.locktype, CASE WHEN c.oid IS NOT NULL THEN format('%I.%I', n.nspname, c.relname) END)
            END
        FROM pg_catalog.pg_locks AS w
        LEFT JOIN pg_catalog.pg_class AS c ON c.oid = w.relation
        LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE w.pid = ANY (@waiting_pids::integer[])
          AND NOT w.granted
        LIMIT 1
    ), '')::text AS waits_for,
    ARRAY(
        SELECT DISTINCT format('%s on %I.%I', h.mode, n.nspname, c.relname)
        FROM relation_lock AS h
        JOIN pg_catalog.pg_class AS c ON c.oid = h.relation
        JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE h.pid = b.pid
          AND h.granted
          AND c.relkind IN ('r', 'p')
          AND (
              h.relation IN (SELECT p.oid FROM part AS p)
              OR h.relation IN (SELECT w.relation FROM pg_catalog.pg_locks AS w WHERE w.pid = ANY (@waiting_pids::integer[]) AND NOT w.granted)
          )
        ORDER BY 1
    )::text[] AS holds
FROM blocker AS b
LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = b.pid
LEFT JOIN LATERAL (
    SELECT l.waitstart, pg_blocking_pids(l.pid) AS blocking_pids
    FROM table_lock AS l
    WHERE l.pid = b.pid
      AND NOT l.granted
    LIMIT 1
) AS q ON true
ORDER BY b.pid;
