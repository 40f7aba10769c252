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
              -- Of each job, too, no row of the history is younger. (OFFSET 0: looked up by job, and not read for all months at once.)
              AND NOT EXISTS (
                  SELECT
                  FROM bbm.batched_background_migration_job_transition_logs AS t
                  WHERE t.batched_background_migration_job_id = j.id
                    AND t.created_at >= now() - make_interval(months => retention_months)
                  OFFSET 0
              )
            ORDER BY j.batched_background_migration_id, j.id
            LIMIT page_size
            FOR UPDATE SKIP LOCKED
        ) AS p
        WHERE m.status IN ('finished', 'cancelled')
          AND coalesce(m.finished_at, m.updated_at) < now() - make_interval(months => retention_months)
          -- A runner can write that status and those times, but has no way to change the history or take a row out of it: by that, too, it has ended.
          AND (
              SELECT t.next_status
              FROM bbm.batched_background_migration_transition_logs AS t
              WHERE t.batched_background_migration_id = m.id
              ORDER BY t.id DESC
              LIMIT 1
          ) IN ('finished', 'cancelled')
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
