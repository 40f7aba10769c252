-- name: FleetGet :one
-- The feature flag and the number of slots; the row always exists.
-- Called by: runner.(*Executor).lookAround, control.Fleet.
-- Index: fleet_settings_pkey.
-- Locks: nothing.
SELECT *
FROM bbm.fleet_settings AS f
WHERE f.id;

-- name: FleetSet :exec
-- Sets execution_enabled or slots for every runner of the database as SQL would, and so notes it in the history. A runner in a slot above the number ends
-- its job first.
-- Called by: control.SetEnabled, control.SetSlots.
-- Index: none here; the function reads the one row.
-- Locks: the row, until commit.
SELECT bbm.set_fleet(setting => @setting::text, value => @value::text, reason => sqlc.narg('reason')::text);

-- name: FleetChangeList :many
-- The changes of what holds for every runner, in order.
-- Called by: control.(*Control).FleetChanges.
-- Index: setting_changes_migration_idx.
-- Locks: nothing.
SELECT *
FROM bbm.setting_changes AS s
WHERE s.batched_background_migration_id IS NULL
ORDER BY s.id;

-- name: ServerCheck :one
-- Whether a runner can serve here: the version of our tables, whether the server only follows another one (nothing can be written then), and whether
-- default_transaction_read_only keeps this session from writing.
-- Called by: runner.(*Executor).checkServer, runner.(*Executor).lookAround, runner.(*Executor).awaitWritable.
-- Index: none; the version table of goose has a row for each version.
-- Locks: nothing.
SELECT
    coalesce(max(v.version_id), 0)::bigint AS schema_version,
    pg_is_in_recovery() AS is_standby,
    current_setting('transaction_read_only')::boolean AS is_read_only
FROM bbm.goose_db_version AS v
WHERE v.is_applied;

-- name: SchemaVersion :one
-- The version of our tables, 0 where none is applied; fails with undefined_table where goose has never run.
-- Called by: control.(*Control).CheckSchema.
-- Index: none; the version table of goose has a row for each version.
-- Locks: nothing.
SELECT coalesce(max(v.version_id), 0)::bigint AS version
FROM bbm.goose_db_version AS v
WHERE v.is_applied;
