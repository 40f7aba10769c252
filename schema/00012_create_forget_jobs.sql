-- +goose Up

-- Deletes a page of the jobs of migrations that ended longer ago than the retention, their history with them, and returns how many; 0: none is left.
-- The migrations stay, with their counts and their own history. Runs with the owner's rights, so that a runner needs no right to delete: it has neither
-- a clock nor a choice of migrations, and keeps a month at least.
-- +goose StatementBegin
CREATE FUNCTION bbm.forget_jobs(retention_months integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    page_size constant integer := 5000;
    deleted_jobs integer;
BEGIN
    IF retention_months IS NULL OR retention_months < 1 THEN
        RAISE EXCEPTION 'the retention must be one month at least' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- A job that still runs is its runner's, or that of whoever recovers it. A locked one is being deleted by somebody else. Rows are compared so that no
    -- plan reads the jobs of other migrations.
    DELETE FROM bbm.batched_background_migration_jobs AS d
    WHERE d.id = ANY (ARRAY(
        SELECT p.id
        FROM bbm.batched_background_migrations AS m
        CROSS JOIN LATERAL (
            SELECT j.id
            FROM bbm.batched_background_migration_jobs AS j
            WHERE (j.batched_background_migration_id, j.id) > (m.id, 0)
              AND j.batched_background_migration_id <= m.id
              AND j.status <> 'running'
            ORDER BY j.batched_background_migration_id, j.id
            LIMIT page_size
            FOR UPDATE SKIP LOCKED
        ) AS p
        WHERE m.status IN ('finished', 'cancelled')
          AND coalesce(m.finished_at, m.updated_at) < now() - make_interval(months => retention_months)
          -- A runner can write those times, but has no way to take a row out of the history.
          AND NOT EXISTS (
              SELECT
              FROM bbm.batched_background_migration_transition_logs AS t
              WHERE t.batched_background_migration_id = m.id
                AND t.created_at >= now() - make_interval(months => retention_months)
          )
        LIMIT page_size
    ));
    GET DIAGNOSTICS deleted_jobs = ROW_COUNT;
    RETURN deleted_jobs;
END
$$;
-- +goose StatementEnd

COMMENT ON FUNCTION bbm.forget_jobs(integer) IS
    'Deletes a page of the jobs of migrations that ended before so many whole months, at least one, and returns how many: for runners.';

REVOKE EXECUTE ON FUNCTION bbm.forget_jobs(integer) FROM PUBLIC;

-- +goose Down
DROP FUNCTION bbm.forget_jobs(integer);
