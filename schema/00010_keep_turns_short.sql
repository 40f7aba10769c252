-- +goose Up

-- Each claim, each hold and each end of a job updates the row of its migration. No index holds what they change, and a page has room for the next version:
-- so these updates are HOT, and leave nothing behind in any index. Whose turn it is, is sorted out in memory over those that are unfinished.
DROP INDEX bbm.batched_background_migrations_claimable_idx;
CREATE INDEX batched_background_migrations_unfinished_idx
    ON bbm.batched_background_migrations (work_name, id) WHERE status IN ('active', 'running');
ALTER TABLE bbm.batched_background_migrations SET (fillfactor = 50);
-- The same for the row of a walk, which each piece updates.
ALTER TABLE bbm.batched_background_migration_verifications SET (fillfactor = 50);
-- The end of each job leaves dead entries in the partial indexes that every look reads. A fifth of all jobs, PostgreSQL's default, would be millions.
ALTER TABLE bbm.batched_background_migration_jobs SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);

-- The transactions of this database that are in progress, prepared ones included, but for ours, for vacuums, and for the workers of autovacuum (they alone have
-- a database and no user), which write no rows of anybody. Prepared ones are read last: one that is being prepared meanwhile is seen twice, and not missed.
-- Who is connected is read anew: a transaction that has looked before would see who was then. A process that is not shown now is still connecting.
-- +goose StatementBegin
CREATE FUNCTION bbm.open_transactions() RETURNS text[]
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pg_stat_clear_snapshot();
    SELECT ARRAY(
        SELECT l.virtualxid
        FROM pg_locks AS l
        JOIN pg_stat_activity AS a ON a.pid = l.pid
        WHERE l.locktype = 'virtualxid'
          AND l.granted
          AND l.mode = 'ExclusiveLock'
          AND l.pid <> pg_backend_pid()
          AND a.datname = current_database()
          AND a.usesysid IS NOT NULL
          AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum AS v WHERE v.pid = l.pid)
        UNION ALL
        SELECT 'prepared ' || p.transaction::text
        FROM pg_prepared_xacts AS p
        WHERE p.database = current_database()
    );
$$;
-- +goose StatementEnd

-- What is still to be awaited by someone who has noted these transactions; null: has noted none yet. Empty: nothing any more.
-- One that has vanished may have been prepared for a two-phase commit: so when the last that was noted has ended, those that are prepared by then are awaited
-- in a second round, as CREATE INDEX CONCURRENTLY does.
CREATE FUNCTION bbm.still_awaited(noted text[]) RETURNS text[]
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN noted IS NULL THEN o.transactions
        WHEN noted && o.transactions THEN noted
        ELSE ARRAY(
            SELECT t.name
            FROM unnest(o.transactions) AS t (name)
            WHERE t.name LIKE 'prepared %'
              AND EXISTS (SELECT FROM unnest(noted) AS n (name) WHERE n.name NOT LIKE 'prepared %')
        )
    END
    FROM (SELECT bbm.open_transactions() AS transactions) AS o
$$;

COMMENT ON FUNCTION bbm.open_transactions() IS
    'The transactions of this database that are in progress, prepared ones included, but for the caller''s own, vacuums and autovacuum.';
COMMENT ON FUNCTION bbm.still_awaited(text[]) IS 'Which transactions are still to be awaited by someone who has noted these; null: none yet. Empty: all have ended.';

REVOKE EXECUTE ON FUNCTION bbm.open_transactions() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION bbm.still_awaited(text[]) FROM PUBLIC;

-- +goose Down
DROP FUNCTION bbm.still_awaited(text[]);
DROP FUNCTION bbm.open_transactions();
ALTER TABLE bbm.batched_background_migration_jobs RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold);
ALTER TABLE bbm.batched_background_migration_verifications RESET (fillfactor);
ALTER TABLE bbm.batched_background_migrations RESET (fillfactor);
DROP INDEX bbm.batched_background_migrations_unfinished_idx;
CREATE INDEX batched_background_migrations_claimable_idx
    ON bbm.batched_background_migrations (last_claimed_at NULLS FIRST, id) WHERE status IN ('active', 'running');
