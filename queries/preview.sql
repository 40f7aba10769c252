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

-- name: PreviewWrittenList :many
-- What this transaction has inserted and updated so far in each of the given tables, and in whatever else it has locked to write; partitions count with
-- their root. A transaction before it in the same session may show in the counts until the server has collected them. Temporary tables are left out.
-- Called by: preview.Sample.
-- Index: pg_class_oid_index; reads the lock table.
-- Locks: nothing; the lock table for an instant.
WITH written AS (
    SELECT unnest(@table_oids::oid[]) AS oid
    UNION
    SELECT l.relation
    FROM pg_catalog.pg_locks AS l
    WHERE l.pid = pg_backend_pid()
      AND l.locktype = 'relation'
      AND l.mode = 'RowExclusiveLock'
), counted AS (
    SELECT
        w.oid,
        coalesce(pg_partition_root(w.oid), w.oid)::oid AS root,
        pg_stat_get_xact_tuples_inserted(w.oid) + pg_stat_get_xact_tuples_updated(w.oid) AS versions
    FROM written AS w
)

SELECT
    t.oid::oid AS oid,
    d.root_name,
    t.versions::bigint AS versions
FROM counted AS t
CROSS JOIN LATERAL (
    SELECT format('%I.%I', n.nspname, r.relname)::text AS root_name
    FROM pg_catalog.pg_class AS r
    JOIN pg_catalog.pg_namespace AS n ON n.oid = r.relnamespace
    WHERE r.oid = t.root
      AND r.relkind IN ('r', 'p')
      AND r.relpersistence <> 't'
    LIMIT 1
) AS d
WHERE t.versions > 0
ORDER BY d.root_name, t.oid;
