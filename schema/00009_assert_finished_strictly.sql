-- +goose Up

-- What assert_finished does, and where it is strict it raises as well while rows are left out, in
-- quarantine: what follows may need every row, as SET NOT NULL does. It stands beside the other, on
-- which functions of the application may depend.
-- +goose StatementBegin
CREATE FUNCTION bbm.assert_finished(name text, strict boolean) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    left_out bigint;
BEGIN
    PERFORM bbm.assert_finished(assert_finished.name);
    SELECT m.quarantined_rows
    INTO left_out
    FROM bbm.batched_background_migrations AS m
    WHERE m.name = assert_finished.name;
    IF left_out > 0 AND assert_finished.strict IS NOT FALSE THEN
        RAISE EXCEPTION 'the batched background migration "%" is finished, but % of its rows are left out, in quarantine', assert_finished.name, left_out
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format('See: bbm-runner quarantine list %s', assert_finished.name);
    END IF;
END
$$;
-- +goose StatementEnd

REVOKE EXECUTE ON FUNCTION bbm.assert_finished(text, boolean) FROM PUBLIC;

-- Whoever may call the other may call this one.
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

COMMENT ON FUNCTION bbm.assert_finished(text, boolean) IS 'The same; where it is strict it raises while rows are left out, too.';
COMMENT ON COLUMN bbm.batched_background_migrations.verified_at IS
    'When a walk over the whole table had found no row that remains but those in quarantine. It stands while these are tried again, each looked at by itself.';

-- +goose Down
DROP FUNCTION bbm.assert_finished(text, boolean);
