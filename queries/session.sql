-- name: SessionPin :many
-- Sets what a session is pinned to, over the defaults of the role and the database, and returns how the server writes it. What this server does not have
-- (transaction_timeout before 17) or may refuse (the look for a vanished client, but on Linux) is left out, so that nothing fails in its log.
-- Called by: session.Connect, runner.(*Executor).queueRenewal, runner.(*Executor).pinAgain, control.(*Control).Verify.
-- Index: none.
-- Locks: nothing.
SELECT
    w.name::text AS name,
    set_config(w.name, (@setting_values::text[])[w.place], false)::text AS value
FROM unnest(@names::text[]) WITH ORDINALITY AS w (name, place)
WHERE current_setting(w.name, true) IS NOT NULL
  AND (w.name <> 'client_connection_check_interval' OR version() LIKE '%linux%');

-- name: SessionListChanged :many
-- The settings that are not as SessionPin has left them: a function that the work calls has set them for the session.
-- Called by: runner.(*Executor).commit, behind COMMIT, when what was set for the transaction alone is gone.
-- Index: none.
-- Locks: nothing.
SELECT w.name::text AS name
FROM unnest(@names::text[]) WITH ORDINALITY AS w (name, place)
WHERE current_setting(w.name) <> (@setting_values::text[])[w.place];

-- name: SessionListPrepared :many
-- The statements that a function of a work has prepared by name, which neither the driver nor we know of.
-- Called by: runner.(*Executor).queueRenewal.
-- Index: none.
-- Locks: nothing.
SELECT s.name::text AS name
FROM pg_catalog.pg_prepared_statements AS s
WHERE s.from_sql;

-- name: SessionHoldsForeignLocks :one
-- Whether this session holds advisory locks that are none of ours (see docs/operations.md): a function of a work has taken them for the session.
-- Called by: runner.(*Executor).queueRenewal, at most once in a poll interval.
-- Index: none; reads the lock table once.
-- Locks: nothing.
SELECT EXISTS (
    SELECT
    FROM pg_catalog.pg_locks AS l
    WHERE l.locktype = 'advisory'
      AND l.pid = pg_backend_pid()
      AND NOT (l.objsubid = 2 AND l.classid IN (1650617601, 1650617603, 1650617604))
) AS holds_foreign_locks;

-- name: SessionName :one
-- Names the migration that is being executed in pg_stat_activity, which shows the first 63 bytes; for the session, if the transaction commits.
-- Called by: runner.(*Executor).lockForClaim.
-- Index: none.
-- Locks: nothing.
SELECT set_config('application_name', @application_name::text, false) AS application_name;
