-- +goose Up

-- Raises unless the migration is finished: the gate of a later schema migration. Where it is strict
-- it raises as well while rows are left out, in quarantine: what follows may need every row, as
-- SET NOT NULL does.
-- +goose StatementBegin
CREATE FUNCTION bbm.assert_finished(name text, strict boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    current_status bbm.migration_status;
    left_out bigint;
BEGIN
    SELECT m.status, m.quarantined_rows
    INTO current_status, left_out
    FROM bbm.batched_background_migrations AS m
    WHERE m.name = assert_finished.name;
    IF current_status IS NULL THEN
        RAISE EXCEPTION 'there is no batched background migration "%"', assert_finished.name
            USING ERRCODE = 'undefined_object', HINT = 'Enqueue it in an earlier schema migration.';
    ELSIF current_status <> 'finished' THEN
        RAISE EXCEPTION 'the batched background migration "%" is %, not finished', assert_finished.name, current_status
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format('See: bbm-runner status %s', assert_finished.name);
    ELSIF left_out > 0 AND assert_finished.strict IS NOT FALSE THEN
        RAISE EXCEPTION 'the batched background migration "%" is finished, but % of its rows are left out, in quarantine', assert_finished.name, left_out
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format('See: bbm-runner quarantine list %s', assert_finished.name);
    END IF;
END
$$;
-- +goose StatementEnd

REVOKE EXECUTE ON FUNCTION bbm.assert_finished(text, boolean) FROM PUBLIC;

-- Whoever might call the function that this one replaces may call it.
-- +goose StatementBegin
DO $$
DECLARE
    caller regrole;
BEGIN
    FOR caller IN
        SELECT DISTINCT a.grantee
        FROM pg_catalog.pg_proc AS p
        CROSS JOIN LATERAL pg_catalog.aclexplode(p.proacl) AS a
        WHERE p.oid = 'bbm.assert_finished(text)'::regprocedure
          AND a.grantee NOT IN (0, p.proowner)
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION bbm.assert_finished(text, boolean) TO %s', caller);
    END LOOP;
END
$$;
-- +goose StatementEnd
DROP FUNCTION bbm.assert_finished(text);

COMMENT ON COLUMN bbm.batched_background_migrations.verified_at IS
    'When a walk over the whole table had found no row that remains but those in quarantine. It stands while these are tried again, each looked at by itself.';

-- +goose Down
DROP FUNCTION bbm.assert_finished(text, boolean);
