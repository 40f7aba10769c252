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
