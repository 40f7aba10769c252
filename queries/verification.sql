-- name: VerificationOpen :one
-- Returns the walk that proves a migration done, as it stands, or makes the next one. At first, after the last of passes_left and after a clean walk
-- there are max_passes again. No row: the range is not cut to its end yet, or a job has not succeeded.
-- Called by: runner.(*Executor).openWalk, which holds the row of the migration.
-- Index: batched_background_migration_verifications_pkey, batched_background_migrations_pkey; jobs by batched_background_migration_jobs_unsucceeded_idx.
-- Locks: the new row, until commit.
WITH done_migration AS (
    SELECT m.id, m.work_checksum
    FROM bbm.batched_background_migrations AS m
    WHERE m.id = @migration_id
      AND m.frontier_key = m.max_key
      AND m.work_checksum IS NOT NULL
      AND NOT EXISTS (
          SELECT
          FROM bbm.batched_background_migration_jobs AS j
          WHERE j.batched_background_migration_id = m.id
            AND j.finished_at IS NULL
      )
), last_walk AS (
    SELECT v.batched_background_migration_id, v.pass, v.passes_left, v.remaining_rows, v.finished_at
    FROM bbm.batched_background_migration_verifications AS v
    WHERE v.batched_background_migration_id = @migration_id
    ORDER BY v.pass DESC
    LIMIT 1
), new_walk AS (
    INSERT INTO bbm.batched_background_migration_verifications AS v (batched_background_migration_id, pass, passes_left, work_checksum)
    SELECT
        m.id,
        coalesce(l.pass, 0) + 1,
        CASE WHEN l.passes_left > 0 AND l.remaining_rows > 0 THEN l.passes_left - 1 ELSE @max_passes::integer END,
        m.work_checksum
    FROM done_migration AS m
    LEFT JOIN last_walk AS l ON l.batched_background_migration_id = m.id
    WHERE l.pass IS NULL
       OR l.finished_at IS NOT NULL
    RETURNING v.pass
)

SELECT n.pass
FROM new_walk AS n
UNION ALL
SELECT l.pass
FROM last_walk AS l
JOIN done_migration AS m ON m.id = l.batched_background_migration_id
WHERE l.finished_at IS NULL;

-- name: VerificationLock :one
-- Holds a walk for one piece of it. No row: another runner is at it, it has come to its end, or the migration is to stop. Not the row of the
-- migration, so that a command need not wait for a piece to be read.
-- Called by: runner.(*Executor).walkPiece, first in the transaction of each piece.
-- Index: batched_background_migration_verifications_pkey, batched_background_migrations_pkey.
-- Locks: the row of the walk, until commit; skips a locked one, since whoever holds it walks.
SELECT v.*
FROM bbm.batched_background_migration_verifications AS v
WHERE v.batched_background_migration_id = @migration_id
  AND v.pass = @pass
  AND v.finished_at IS NULL
  AND EXISTS (
      SELECT
      FROM bbm.batched_background_migrations AS m
      WHERE m.id = v.batched_background_migration_id
        AND m.status = 'running'
  )
ORDER BY v.pass
FOR UPDATE SKIP LOCKED;

-- name: VerificationAwait :one
-- Notes the transactions that must end before a walk begins, or begins again by another version of the work, and returns them; none: all have ended.
-- Called by: runner.(*Executor).beginWalk, which holds the row of the walk.
-- Index: batched_background_migration_verifications_pkey.
-- Locks: the row of the walk, until commit.
UPDATE bbm.batched_background_migration_verifications AS v
SET
    awaited_transactions = bbm.still_awaited(
        -- Those noted for another version were open before its walk, and jobs may have run since.
        CASE WHEN v.work_checksum = @work_checksum::text THEN v.awaited_transactions END
    ),
    work_checksum = @work_checksum::text,
    statement = NULL,
    updated_at = now()
WHERE v.batched_background_migration_id = @migration_id
  AND v.pass = @pass
RETURNING coalesce(v.awaited_transactions, '{}')::text[] AS awaited_transactions;

-- name: VerificationBegin :one
-- Begins a walk up to the present end of the table (none: it has no row), or begins it again where another version of the work was adopted.
-- Called by: runner.(*Executor).beginWalk, which holds the row of the walk.
-- Index: batched_background_migration_verifications_pkey.
-- Locks: the row of the walk, until commit.
UPDATE bbm.batched_background_migration_verifications AS v
SET
    work_checksum = @work_checksum::text,
    statement = @statement::text,
    until_key = sqlc.narg('until_key')::text[],
    progress_key = NULL,
    expected_rows = @expected_rows::bigint,
    walked_rows = 0,
    remaining_rows = 0,
    remaining_keys = '[]',
    updated_at = now()
WHERE v.batched_background_migration_id = @migration_id
  AND v.pass = @pass
  AND v.finished_at IS NULL
RETURNING *;

-- name: VerificationProgress :one
-- Moves a walk behind a piece that was read, and cuts a job over the piece up to its last row that remains, where passes are left. No row: the
-- migration is to stop or has adopted another version, or the fleet is to stop, or the walk does not stand where we think: roll back. Raises BBM02 where the table is another one.
-- Called by: runner.(*Executor).walkPiece, which holds the row of the walk.
-- Index: batched_background_migration_verifications_pkey, batched_background_migrations_pkey.
-- Locks: the row of the walk, then that of the migration, until commit.
WITH claimed_migration AS (
    UPDATE bbm.batched_background_migrations AS m
    SET
        last_claimed_at = now(),
        updated_at = now()
    WHERE m.id = @migration_id
      AND m.status = 'running'
      AND (m.on_hold_until IS NULL OR m.on_hold_until <= now())
      AND (SELECT f.execution_enabled FROM bbm.fleet_settings AS f)
    RETURNING m.id, m.table_name, m.table_oid, m.work_checksum
), walked AS (
    UPDATE bbm.batched_background_migration_verifications AS v
    SET
        progress_key = sqlc.narg('progress_key')::text[],
        walked_rows = v.walked_rows + @rows::bigint,
        remaining_rows = v.remaining_rows + @remaining_rows::bigint,
        remaining_keys = CASE WHEN jsonb_array_length(v.remaining_keys) < 5 THEN v.remaining_keys || @remaining_keys::jsonb ELSE v.remaining_keys END,
        finished_at = CASE WHEN sqlc.narg('progress_key')::text[] IS NOT DISTINCT FROM v.until_key THEN now() END,
        updated_at = now()
    FROM claimed_migration AS m
    WHERE v.batched_background_migration_id = m.id
      AND v.pass = @pass
      AND v.work_checksum = m.work_checksum
      AND v.finished_at IS NULL
      AND v.progress_key IS NOT DISTINCT FROM sqlc.narg('after_key')::text[]
    RETURNING v.*
), new_job AS (
    INSERT INTO bbm.batched_background_migration_jobs AS j (
        batched_background_migration_id, pass, after_key, until_key, progress_key, status, next_attempt_at
    )
    SELECT
        v.batched_background_migration_id, v.pass, sqlc.narg('after_key')::text[], sqlc.narg('last_remaining_key')::text[], sqlc.narg('after_key')::text[],
        'pending', now()
    FROM walked AS v
    WHERE v.passes_left > 0
      AND @remaining_rows::bigint > 0
    RETURNING j.id, j.status, j.created_at
), logged_creation AS (
    INSERT INTO bbm.batched_background_migration_job_transition_logs (
        batched_background_migration_job_id, created_at, previous_status, next_status, attempt
    )
    SELECT j.id, j.created_at, NULL, j.status, 1
    FROM new_job AS j
)

SELECT
    v.walked_rows,
    v.remaining_rows,
    v.remaining_keys,
    v.passes_left,
    (v.finished_at IS NOT NULL)::boolean AS is_finished,
    bbm.assert_target(m.table_name, m.table_oid) AS is_target
FROM walked AS v
CROSS JOIN claimed_migration AS m;

-- name: MigrationProve :one
-- Ends a migration whose walk has come to its end and found no row that remains, with that as its proof. No row: not so.
-- Called by: runner.(*Executor).conclude, which holds the row of the walk.
-- Index: batched_background_migrations_pkey, batched_background_migration_verifications_pkey; jobs by
-- batched_background_migration_jobs_unsucceeded_idx.
-- Locks: the row of the migration, until commit.
WITH locked_migration AS (
    SELECT m.id, m.status, v.walked_rows, v.statement, v.finished_at
    FROM bbm.batched_background_migrations AS m
    JOIN bbm.batched_background_migration_verifications AS v ON v.batched_background_migration_id = m.id
    WHERE m.id = @migration_id
      AND m.status = 'running'
      AND m.frontier_key = m.max_key
      AND v.pass = @pass
      AND v.work_checksum = m.work_checksum
      AND v.finished_at IS NOT NULL
      AND v.remaining_rows = 0
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
        finished_at = now(),
        verified_at = l.finished_at,
        verified_rows = l.walked_rows,
        verified_statement = l.statement,
        updated_at = now()
    FROM locked_migration AS l
    WHERE m.id = l.id
    RETURNING m.*
), logged_transition AS (
    INSERT INTO bbm.batched_background_migration_transition_logs (
        batched_background_migration_id, created_at, previous_status, next_status, changed_by, reason
    )
    SELECT
        m.id, m.updated_at, l.status, m.status, @changed_by::text,
        format('of %s rows none remains', m.verified_rows) || coalesce(' but ' || nullif(m.quarantined_rows, 0) || ' in quarantine', '')
    FROM finished_migration AS m
    JOIN locked_migration AS l ON l.id = m.id
)

SELECT
    m.quarantined_rows,
    m.verified_at
FROM finished_migration AS m;

-- name: VerificationDecidesRows :one
-- Whether only the predicate of what remains tells a row that is done from one that is not: a walk has begun, and jobs have not succeeded, each of a
-- pass then, or rows are left out, which a pass may have changed since.
-- Called by: control.(*adoption).checkPasses, which holds the row of the migration.
-- Index: batched_background_migration_verifications_pkey, batched_background_migration_jobs_unsucceeded_idx,
-- batched_background_migration_quarantined_rows_migration_idx.
-- Locks: nothing.
SELECT (
    EXISTS (
        SELECT
        FROM bbm.batched_background_migration_verifications AS v
        WHERE v.batched_background_migration_id = @migration_id
          -- One that begins again has counted what it had walked over before.
          AND (v.statement IS NOT NULL OR v.walked_rows > 0)
    )
    AND (
        EXISTS (
            SELECT
            FROM bbm.batched_background_migration_jobs AS j
            WHERE j.batched_background_migration_id = @migration_id
              AND j.finished_at IS NULL
        )
        OR EXISTS (
            SELECT
            FROM bbm.batched_background_migration_quarantined_rows AS q
            WHERE q.batched_background_migration_id = @migration_id
              AND q.mended_at IS NULL
        )
    )
)::boolean AS decides;
