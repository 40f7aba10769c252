-- name: MigrationListUnprepared :many
-- Active migrations without bounds whose work the caller has, in the pinned version or by name where none is pinned yet, and which wait for no older
-- transaction. An empty list of names stands for all. The caller skips what it has just found locked.
-- Called by: runner.(*Executor).lookAround.
-- Index: batched_background_migrations_unfinished_idx.
-- Locks: nothing; the lock table is read once, and only where one waits.
SELECT *
FROM bbm.batched_background_migrations AS m
WHERE m.status = 'active'
  AND m.max_key IS NULL
  AND (
      m.work_name || ':' || m.work_checksum = ANY (@works::text[])
      OR (m.work_checksum IS NULL AND m.work_name = ANY (@work_names::text[]))
  )
  AND (cardinality(@only_names::text[]) = 0 OR m.name = ANY (@only_names::text[]))
  AND m.id <> ALL (@skipped_ids::bigint[])
  AND (m.on_hold_until IS NULL OR m.on_hold_until <= coalesce(sqlc.narg('now')::timestamptz, now()))
  AND CASE WHEN cardinality(m.awaited_transactions) > 0 THEN NOT m.awaited_transactions && (SELECT bbm.open_transactions()) ELSE true END
ORDER BY m.id
LIMIT 100;

-- name: MigrationLockUnprepared :one
-- Holds a migration while its definition and bounds are fixed. No row: another runner is at it, or has done it.
-- Called by: runner.(*Executor).prepareOne.
-- Index: batched_background_migrations_pkey.
-- Locks: the row of the migration, until commit; skips a locked one, since whoever holds it prepares, pauses or cancels it.
SELECT *
FROM bbm.batched_background_migrations AS m
WHERE m.id = @migration_id
  AND m.status = 'active'
  AND m.max_key IS NULL
ORDER BY m.id
FOR UPDATE SKIP LOCKED;

-- name: MigrationPin :one
-- Pins what a migration does: the version of the work, its cursor, its sizes, and what remains to be done. An empty table, which finished the
-- migration at once, is its proof. No row: another version is pinned already.
-- Called by: runner.(*Executor).prepareOne, control.Enqueue, control.(*Control).Enqueue.
-- Index: batched_background_migrations_pkey.
-- Locks: the row of the migration, until commit.
UPDATE bbm.batched_background_migrations AS m
SET
    work_checksum = @work_checksum::text,
    cursor_columns = @cursor_columns::text[],
    batch_size = coalesce(m.batch_size, @batch_size::integer),
    sub_batch_size = coalesce(
        m.sub_batch_size,
        -- Not by least() alone, which takes null for no limit.
        CASE
            WHEN sqlc.narg('sub_batch_size')::integer IS NOT NULL
                THEN least(sqlc.narg('sub_batch_size')::integer, coalesce(m.batch_size, @batch_size::integer))
        END
    ),
    total_tuple_count = @total_tuple_count::bigint,
    row_set = @row_set::jsonb,
    remaining_predicate = sqlc.narg('remaining_predicate')::text,
    verified_at = CASE WHEN sqlc.narg('remaining_predicate')::text IS NOT NULL THEN m.finished_at END,
    verified_rows = CASE WHEN sqlc.narg('remaining_predicate')::text IS NOT NULL AND m.finished_at IS NOT NULL THEN 0 END,
    verified_statement = CASE
        WHEN sqlc.narg('remaining_predicate')::text IS NOT NULL AND m.finished_at IS NOT NULL
            THEN 'SELECT NOT EXISTS (SELECT FROM ' || m.table_name || ')'
    END,
    updated_at = now()
WHERE m.id = @migration_id
  AND m.work_checksum IS NULL
RETURNING *;

-- name: MigrationNoteRowSet :exec
-- Notes which rows the pinned version walks over, where a version of bbm-runner pinned it that did not.
-- Called by: runner.(*Executor).equip, control.(*Control).Enqueue.
-- Index: batched_background_migrations_pkey.
-- Locks: the row of the migration, until commit.
UPDATE bbm.batched_background_migrations AS m
SET
    row_set = @row_set::jsonb,
    updated_at = now()
WHERE m.id = @migration_id
  AND m.work_checksum = @work_checksum::text
  AND m.row_set IS NULL;

-- name: MigrationAwait :one
-- Notes the transactions that must end before the upper bound is fixed, and returns them; none: all have ended.
-- Called by: runner.(*Executor).prepareOne, which holds the row of the migration.
-- Index: batched_background_migrations_pkey.
-- Locks: the row of the migration, until commit.
UPDATE bbm.batched_background_migrations AS m
SET
    awaited_transactions = bbm.still_awaited(m.awaited_transactions),
    updated_at = now()
WHERE m.id = @migration_id
RETURNING coalesce(m.awaited_transactions, '{}')::text[] AS awaited_transactions;

-- name: MigrationBound :one
-- Fixes the upper bound, once. No row: it is fixed. Raises BBM02 where the last key was that of another table: asked behind the query for it, whose lock
-- keeps the name where it is until the commit.
-- Called by: runner.(*Executor).prepareOne, which holds the row of the migration.
-- Index: batched_background_migrations_pkey.
-- Locks: the row of the migration, until commit.
UPDATE bbm.batched_background_migrations AS m
SET
    max_key = @max_key::text[],
    total_tuple_count = @total_tuple_count::bigint,
    updated_at = now()
WHERE m.id = @migration_id
  AND m.max_key IS NULL
RETURNING bbm.assert_target(m.table_name, m.table_oid) AS is_target;

-- name: MigrationFinishEmpty :one
-- Ends a migration of a table without rows, of which the statement is the proof. No row: it is not active, or has bounds. Raises BBM02 where it is
-- another table that has none, as MigrationBound does.
-- Called by: runner.(*Executor).prepareOne, which holds the row of the migration.
-- Index: batched_background_migrations_pkey.
-- Locks: the row of the migration, until commit.
WITH finished_migration AS (
    UPDATE bbm.batched_background_migrations AS m
    SET
        status = 'finished',
        total_tuple_count = 0,
        finished_at = now(),
        verified_at = CASE WHEN m.remaining_predicate IS NOT NULL THEN now() END,
        verified_rows = CASE WHEN m.remaining_predicate IS NOT NULL THEN 0 END,
        verified_statement = CASE WHEN m.remaining_predicate IS NOT NULL THEN @statement::text END,
        updated_at = now()
    WHERE m.id = @migration_id
      AND m.status = 'active'
      AND m.max_key IS NULL
    RETURNING m.*
), logged_transition AS (
    INSERT INTO bbm.batched_background_migration_transition_logs (
        batched_background_migration_id, created_at, previous_status, next_status, changed_by, reason
    )
    SELECT m.id, m.updated_at, 'active', m.status, @changed_by::text, 'the table was empty'
    FROM finished_migration AS m
)

SELECT m.id, bbm.assert_target(m.table_name, m.table_oid) AS is_target
FROM finished_migration AS m;

-- name: MigrationReject :one
-- Fails a migration whose definition does not hold, or in which rows remain after the last pass, with the code and the reason. No row: it is
-- neither active nor running.
-- Called by: runner.(*Executor).reject, runner.(*Executor).conclude.
-- Index: batched_background_migrations_pkey.
-- Locks: the row of the migration, until commit.
WITH locked_migration AS (
    SELECT m.id, m.status
    FROM bbm.batched_background_migrations AS m
    WHERE m.id = @migration_id
      AND m.status IN ('active', 'running')
    ORDER BY m.id
    FOR UPDATE
), failed_migration AS (
    UPDATE bbm.batched_background_migrations AS m
    SET
        status = 'failed',
        failure_error_code = @failure_code::bbm.migration_failure_code,
        failure_message = left(@failure_message::text, 1000),
        on_hold_until = NULL,
        hold_reason = NULL,
        updated_at = now()
    FROM locked_migration AS l
    WHERE m.id = l.id
    RETURNING m.*
), logged_transition AS (
    INSERT INTO bbm.batched_background_migration_transition_logs (
        batched_background_migration_id, created_at, previous_status, next_status, changed_by, reason
    )
    SELECT m.id, m.updated_at, l.status, m.status, @changed_by::text, m.failure_message
    FROM failed_migration AS m
    JOIN locked_migration AS l ON l.id = m.id
)

SELECT m.id
FROM failed_migration AS m;
