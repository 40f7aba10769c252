-- +goose Up

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
