-- +goose Up

-- Later files replace two functions by others of the same names. What depends on them would stop those in the middle, with tables that no version serves: so
-- it is told before anything is changed.
-- +goose StatementBegin
DO $$
DECLARE
    dependents text;
BEGIN
    SELECT string_agg(DISTINCT pg_catalog.pg_describe_object(d.classid, d.objid, 0), ', ')
    INTO dependents
    FROM pg_catalog.pg_depend AS d
    WHERE d.refclassid = 'pg_catalog.pg_proc'::regclass
      AND d.refobjid IN (
          'bbm.enqueue(text, regclass, text, jsonb, integer, integer, boolean)'::regprocedure,
          'bbm.maintain_log_partitions(interval, timestamptz)'::regprocedure
      )
      AND d.deptype = 'n';
    IF dependents IS NOT NULL THEN
        RAISE EXCEPTION 'bbm.enqueue and bbm.maintain_log_partitions are about to be replaced, and these depend on them: %', dependents
            USING ERRCODE = 'dependent_objects_still_exist',
                HINT = 'Drop them, or give the functions a body in quotes, and make them again afterwards.';
    END IF;
END
$$;
-- +goose StatementEnd

-- Tables and types of a session are searched first unless pg_temp is named, and last where it is named last.
ALTER FUNCTION bbm.work_lock_key(text, text) SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION bbm.assert_fence(boolean) SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION bbm.assert_target(text, oid) SET search_path = pg_catalog, pg_temp;

ALTER TABLE bbm.batched_background_migrations ADD COLUMN row_set jsonb;

COMMENT ON COLUMN bbm.batched_background_migrations.row_set IS
    'Which rows the upper bound was fixed for: the scope of the work with the settings by which it is read, and the order of the cursor. Null: not pinned, or by a version that did not note it.';

-- +goose Down
ALTER TABLE bbm.batched_background_migrations DROP COLUMN row_set;
ALTER FUNCTION bbm.assert_target(text, oid) SET search_path = pg_catalog;
ALTER FUNCTION bbm.assert_fence(boolean) SET search_path = pg_catalog;
ALTER FUNCTION bbm.work_lock_key(text, text) SET search_path = pg_catalog;
