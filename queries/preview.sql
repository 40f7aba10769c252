-- name: PreviewSettingsSet :exec
-- Gives this transaction what a run sets for a work, and ends it when its client hangs.
-- Called by: preview.Explain, preview.Sample.
-- Index: none.
-- Locks: nothing.
SELECT
    set_config('search_path', @search_path::text, true),
    set_config('TimeZone', @time_zone::text, true),
    set_config('plan_cache_mode', 'force_custom_plan', true),
    set_config('idle_in_transaction_session_timeout', @idle_timeout::text, true);

-- name: PreviewSettingList :many
-- The present values of settings, in the order of the names; unknown names have no row.
-- Called by: preview.Explain.
-- Index: none.
-- Locks: nothing.
SELECT w.name::text AS name, current_setting(w.name) AS value
FROM unnest(@names::text[]) WITH ORDINALITY AS w (name, place)
WHERE current_setting(w.name, true) IS NOT NULL
ORDER BY w.place;

-- name: PreviewRole :one
-- Who would run the work, and on what server.
-- Called by: preview.Explain.
-- Index: none.
-- Locks: nothing.
SELECT
    current_user::text AS name,
    (current_setting('is_superuser') = 'on')::boolean AS is_superuser,
    current_setting('server_version_num')::integer AS server_version;

-- name: PreviewCounters :one
-- What this transaction has updated in a table so far, and where the log of the whole server stands, in bytes.
-- Called by: preview.Sample.
-- Index: none.
-- Locks: the table and its partitions, ACCESS SHARE, until the end of the statement.
WITH part AS (
    SELECT @table_oid::oid AS oid
    UNION
    SELECT t.relid FROM pg_partition_tree(@table_oid) AS t
)

SELECT
    pg_current_xact_id()::text AS transaction_id,
    coalesce(sum(pg_stat_get_xact_tuples_updated(p.oid)), 0)::bigint AS updated,
    coalesce(sum(pg_stat_get_xact_tuples_hot_updated(p.oid)), 0)::bigint AS hot_updated,
    pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint AS wal_position
FROM part AS p;

-- name: PreviewBlockers :many
-- Whom a session waits for, what for, and what they hold of a table or of the one that it waits for; no row while it does not wait. A prepared
-- transaction has the pid 0. What the role may not see of others is empty.
-- Called by: preview.Sample, from a second connection, while a sample runs.
-- Index: none; reads the lock table.
-- Locks: nothing; the lock table for an instant.
WITH part AS (
    SELECT @table_oid::oid AS oid
    UNION
    SELECT t.relid FROM pg_partition_tree(@table_oid) AS t
)

SELECT
    b.pid::integer AS pid,
    coalesce(a.application_name, '')::text AS application_name,
    coalesce(a.usename, '')::text AS user_name,
    coalesce(a.state, '')::text AS state,
    coalesce(extract(EPOCH FROM clock_timestamp() - a.xact_start), 0)::double precision AS transaction_seconds,
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
        WHERE w.pid = @waiting_pid::integer
          AND NOT w.granted
        LIMIT 1
    ), '')::text AS waits_for,
    ARRAY(
        SELECT DISTINCT format('%s on %I.%I', h.mode, n.nspname, c.relname)
        FROM pg_catalog.pg_locks AS h
        JOIN pg_catalog.pg_class AS c ON c.oid = h.relation
        JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE h.pid = b.pid
          AND h.granted
          AND h.locktype = 'relation'
          AND c.relkind IN ('r', 'p')
          AND (
              h.relation IN (SELECT p.oid FROM part AS p)
              OR h.relation IN (SELECT w.relation FROM pg_catalog.pg_locks AS w WHERE w.pid = @waiting_pid::integer AND NOT w.granted)
          )
        ORDER BY 1
    )::text[] AS holds
FROM unnest(pg_blocking_pids(@waiting_pid::integer)) AS b (pid)
LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = b.pid
ORDER BY b.pid;
