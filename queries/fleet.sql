-- name: FleetGet :one
-- The feature flag and the number of slots; the row always exists.
-- Called by: runner.(*Executor).lookAround, control.Fleet.
-- Index: fleet_settings_pkey.
-- Locks: nothing.
SELECT *
FROM bbm.fleet_settings AS f
WHERE f.id;

-- name: FleetSetEnabled :one
-- Turns the feature flag on or off for every runner of the database.
-- Called by: control.SetEnabled.
-- Index: fleet_settings_pkey.
-- Locks: the row, until commit.
UPDATE bbm.fleet_settings AS f
SET
    execution_enabled = @execution_enabled,
    changed_by = @changed_by,
    reason = sqlc.narg('reason')::text,
    updated_at = now()
WHERE f.id
RETURNING *;

-- name: FleetSetSlots :one
-- Sets how many jobs the whole fleet may execute at once; a runner in a slot above the number ends its job first.
-- Called by: control.SetSlots.
-- Index: fleet_settings_pkey.
-- Locks: the row, until commit.
UPDATE bbm.fleet_settings AS f
SET
    slots = @slots,
    updated_at = now()
WHERE f.id
RETURNING *;

-- name: ServerCheck :one
-- Whether a runner can serve here: the version of our tables, and whether the server only follows another one (nothing can be written then).
-- Called by: runner.(*Executor).checkServer, runner.(*Executor).lookAround.
-- Index: none; the version table of goose has a row for each version.
-- Locks: nothing.
SELECT
    coalesce(max(v.version_id), 0)::bigint AS schema_version,
    pg_is_in_recovery() AS is_standby
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
