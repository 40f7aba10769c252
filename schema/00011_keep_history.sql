-- +goose Up

-- The functions that were there before.
COMMENT ON FUNCTION bbm.work_lock_key(text, text) IS 'The key of the advisory lock by which a runner shows that it has a work in a version.';
COMMENT ON FUNCTION bbm.assert_fence(boolean) IS 'Raises BBM01 unless the fence of a sub-batch holds: for runners.';
COMMENT ON FUNCTION bbm.assert_target(text, oid) IS 'Raises BBM02 unless the name still stands for the table: for runners.';
COMMENT ON FUNCTION bbm.assert_finished(text) IS 'Raises unless the migration is finished: the gate of a later schema migration.';
COMMENT ON FUNCTION bbm.enqueue IS 'Creates a migration and returns its name; the same definition again changes nothing.';

-- What a program says of who acts is its own word; beside it stands the role that the database has let in. It is null for what was logged before.
ALTER TABLE bbm.batched_background_migration_transition_logs ADD COLUMN session_role text;
ALTER TABLE bbm.batched_background_migration_transition_logs ALTER COLUMN session_role SET DEFAULT session_user;

COMMENT ON COLUMN bbm.batched_background_migration_transition_logs.changed_by IS 'Who made the change, as the program that made it says.';
COMMENT ON COLUMN bbm.batched_background_migration_transition_logs.session_role IS
    'The role whose session made the change, as the database knows it; null for changes made before this column was there.';

-- A sum of a time and such an interval must be a time: else one migration's setting would fail the look of every runner.
UPDATE bbm.batched_background_migrations AS m
SET
    job_interval = least(m.job_interval, interval '365 days'),
    pause = least(m.pause, interval '365 days')
WHERE m.job_interval > interval '365 days'
   OR m.pause > interval '365 days';
ALTER TABLE bbm.batched_background_migrations
    ADD CONSTRAINT batched_background_migrations_job_interval_limit_check CHECK (job_interval <= '365 days'),
    ADD CONSTRAINT batched_background_migrations_pause_limit_check CHECK (pause <= '365 days');

CREATE TABLE bbm.setting_changes (
    id bigint GENERATED ALWAYS AS IDENTITY,
    batched_background_migration_id bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    setting text NOT NULL,
    old_value text,
    new_value text,
    changed_by text NOT NULL,
    session_role text NOT NULL DEFAULT session_user,
    reason text,
    CONSTRAINT setting_changes_pkey PRIMARY KEY (id),
    CONSTRAINT setting_changes_migration_fkey FOREIGN KEY (batched_background_migration_id)
        REFERENCES bbm.batched_background_migrations (id) ON DELETE CASCADE
);

COMMENT ON TABLE bbm.setting_changes IS 'Every change of a setting, of a migration or of the fleet, with who made it and why.';
COMMENT ON COLUMN bbm.setting_changes.batched_background_migration_id IS 'Null: a setting of the fleet.';
COMMENT ON COLUMN bbm.setting_changes.changed_by IS 'Who made the change, as the program that made it says.';
COMMENT ON COLUMN bbm.setting_changes.session_role IS 'The role whose session made the change, as the database knows it.';

CREATE INDEX setting_changes_migration_idx ON bbm.setting_changes (batched_background_migration_id, id);

-- Who acts: a program that acts for somebody says for whom; else it is the role.
CREATE FUNCTION bbm.changed_by() RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
RETURN coalesce(nullif(current_setting('bbm.changed_by', true), ''), session_user);

COMMENT ON FUNCTION bbm.changed_by() IS 'Who makes a change: what the transaction has set as bbm.changed_by, else the role of the session.';

-- These two run with the owner's rights, so that a role which may call them can neither write the history nor change a setting beside it.
-- +goose StatementBegin
CREATE FUNCTION bbm.set_fleet(setting text, value text, reason text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    IF set_fleet.setting IS NULL OR set_fleet.setting NOT IN ('execution_enabled', 'slots') THEN
        RAISE EXCEPTION 'the fleet has no setting "%"; give execution_enabled or slots', coalesce(set_fleet.setting, 'null')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF set_fleet.value IS NULL THEN
        RAISE EXCEPTION 'the value of % must not be null', set_fleet.setting USING ERRCODE = 'null_value_not_allowed';
    END IF;
    WITH previous AS (
        SELECT f.execution_enabled, f.slots
        FROM bbm.fleet_settings AS f
        WHERE f.id
        ORDER BY f.id
        FOR UPDATE
    ), changed AS (
        UPDATE bbm.fleet_settings AS f
        SET
            execution_enabled = CASE WHEN set_fleet.setting = 'execution_enabled' THEN set_fleet.value::boolean ELSE f.execution_enabled END,
            slots = CASE WHEN set_fleet.setting = 'slots' THEN set_fleet.value::integer ELSE f.slots END,
            -- These two tell of the flag, as status does; who changed the slots is in the history.
            changed_by = CASE WHEN set_fleet.setting = 'execution_enabled' THEN bbm.changed_by() ELSE f.changed_by END,
            reason = CASE WHEN set_fleet.setting = 'execution_enabled' THEN nullif(set_fleet.reason, '') ELSE f.reason END,
            updated_at = now()
        FROM previous AS p
        WHERE f.id
        RETURNING f.execution_enabled, f.slots, p.execution_enabled AS old_execution_enabled, p.slots AS old_slots
    )
    INSERT INTO bbm.setting_changes (setting, old_value, new_value, changed_by, reason)
    SELECT v.setting, v.old_value, v.new_value, bbm.changed_by(), nullif(set_fleet.reason, '')
    FROM changed AS c
    CROSS JOIN LATERAL (
        VALUES
        ('execution_enabled', c.old_execution_enabled::text, c.execution_enabled::text),
        ('slots', c.old_slots::text, c.slots::text)
    ) AS v (setting, old_value, new_value)
    -- The same value again is an act too: it has another reason.
    WHERE v.setting = set_fleet.setting;
    PERFORM pg_notify('bbm_wake', '');
END
$$;
-- +goose StatementEnd

COMMENT ON FUNCTION bbm.set_fleet(text, text, text) IS 'Sets what holds for every runner of this database: execution_enabled (true or false) or slots (1 to 1000).';

CREATE FUNCTION bbm.enable(reason text DEFAULT NULL) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$ SELECT bbm.set_fleet('execution_enabled', 'true', reason) $$;

COMMENT ON FUNCTION bbm.enable(text) IS 'Turns execution on for the whole fleet; a runner executes only where its own parameter is on too.';

CREATE FUNCTION bbm.disable(reason text) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$ SELECT bbm.set_fleet('execution_enabled', 'false', reason) $$;

COMMENT ON FUNCTION bbm.disable(text) IS 'Turns execution off for the whole fleet, within one sub-batch.';

-- +goose StatementBegin
CREATE FUNCTION bbm.set(name text, setting text, value text, reason text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET intervalstyle = postgres -- the history reads the same, whoever wrote it
AS $$
#variable_conflict use_column
DECLARE
    existing bbm.batched_background_migrations;
    tunable constant text[] := '{asynchronous_commit,batch_size,interval,max_attempts,on_row_error,parallelism,pause,quarantine_limit,sub_batch_size}';
BEGIN
    IF set.setting IS NULL OR set.setting <> ALL (tunable) THEN
        RAISE EXCEPTION 'a migration has no setting "%"; give one of %', coalesce(set.setting, 'null'), array_to_string(tunable, ', ')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF set.value IS NULL THEN
        RAISE EXCEPTION 'the value of % must not be null', set.setting USING ERRCODE = 'null_value_not_allowed';
    END IF;
    SELECT m.* INTO existing FROM bbm.batched_background_migrations AS m WHERE m.name = set.name ORDER BY m.id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no migration "%"', set.name USING ERRCODE = 'undefined_object';
    ELSIF existing.status IN ('finished', 'cancelled') THEN
        RAISE EXCEPTION 'migration "%" is %; nothing to tune', set.name, existing.status USING ERRCODE = 'object_not_in_prerequisite_state';
    ELSIF set.setting = 'batch_size' AND existing.work_checksum IS NOT NULL THEN
        RAISE EXCEPTION 'the batch size of migration "%" is fixed', set.name USING ERRCODE = 'object_not_in_prerequisite_state';
    ELSIF set.setting IN ('interval', 'pause') AND set.value::interval NOT BETWEEN '0' AND '365 days' THEN
        RAISE EXCEPTION 'the % of % is not possible; give 0 to 365 days', set.setting, set.value USING ERRCODE = 'invalid_parameter_value';
    ELSIF set.setting = 'sub_batch_size' AND nullif(set.value, 'auto')::integer > existing.batch_size THEN
        RAISE EXCEPTION 'sub-batch size % is above the batch size of %; a sub-batch is a part of a batch', set.value, existing.batch_size
            USING ERRCODE = 'invalid_parameter_value';
    END IF;

    WITH changed AS (
        UPDATE bbm.batched_background_migrations AS m
        SET
            batch_size = CASE WHEN set.setting = 'batch_size' THEN set.value::integer ELSE m.batch_size END,
            -- auto: the runner chooses.
            sub_batch_size = CASE
                WHEN set.setting = 'sub_batch_size' THEN nullif(set.value, 'auto')::integer
                ELSE m.sub_batch_size
            END,
            job_interval = CASE WHEN set.setting = 'interval' THEN set.value::interval ELSE m.job_interval END,
            pause = CASE WHEN set.setting = 'pause' THEN set.value::interval ELSE m.pause END,
            max_attempts = CASE WHEN set.setting = 'max_attempts' THEN set.value::integer ELSE m.max_attempts END,
            asynchronous_commit = CASE WHEN set.setting = 'asynchronous_commit' THEN set.value::boolean ELSE m.asynchronous_commit END,
            parallelism = CASE WHEN set.setting = 'parallelism' THEN set.value::integer ELSE m.parallelism END,
            on_row_error = CASE WHEN set.setting = 'on_row_error' THEN set.value::bbm.row_error_policy ELSE m.on_row_error END,
            quarantine_limit = CASE WHEN set.setting = 'quarantine_limit' THEN set.value::integer ELSE m.quarantine_limit END,
            updated_at = now()
        WHERE m.id = existing.id
        RETURNING m.*
    )
    INSERT INTO bbm.setting_changes (batched_background_migration_id, setting, old_value, new_value, changed_by, reason)
    SELECT c.id, v.setting, v.old_value, v.new_value, bbm.changed_by(), nullif(set.reason, '')
    FROM changed AS c
    CROSS JOIN LATERAL (
        VALUES
        ('asynchronous_commit', existing.asynchronous_commit::text, c.asynchronous_commit::text),
        ('batch_size', existing.batch_size::text, c.batch_size::text),
        ('interval', existing.job_interval::text, c.job_interval::text),
        ('max_attempts', existing.max_attempts::text, c.max_attempts::text),
        ('on_row_error', existing.on_row_error::text, c.on_row_error::text),
        ('parallelism', existing.parallelism::text, c.parallelism::text),
        ('pause', existing.pause::text, c.pause::text),
        ('quarantine_limit', existing.quarantine_limit::text, c.quarantine_limit::text),
        ('sub_batch_size', coalesce(existing.sub_batch_size::text, 'auto'), coalesce(c.sub_batch_size::text, 'auto'))
    ) AS v (setting, old_value, new_value)
    WHERE v.setting = set.setting;
    PERFORM pg_notify('bbm_wake', set.name);
END
$$;
-- +goose StatementEnd

COMMENT ON FUNCTION bbm.set(text, text, text, text) IS
    'Tunes a migration while it runs: sub_batch_size (a number, or auto), pause, interval, parallelism, max_attempts, asynchronous_commit, on_row_error or quarantine_limit.';

-- The old one did everything in one transaction, and took its clock and any retention from whoever might execute it.
DROP FUNCTION bbm.maintain_log_partitions(interval, timestamptz);

-- Does the next thing that the log's partitions need at a time, and returns it; no row: there is nothing to do, or somebody else is at it. It makes one
-- of this month and three ahead, else drops one month whose last row is older than the retention, else deletes such rows of the default partition, a few
-- thousand. To drop a month is to lock the whole log for a moment, which DETACH … CONCURRENTLY would not: but that is not allowed beside a default
-- partition. So a transaction has one month to drop. A lock that is not had within a second raises 55P03, to be tried again later.
-- +goose StatementBegin
CREATE FUNCTION bbm.maintain_log_partitions(retention interval, at timestamptz)
RETURNS TABLE (action text, partition_name text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
SET timezone = 'UTC'
AS $$
DECLARE
    parent constant text := 'batched_background_migration_job_transition_logs';
    first_of_month timestamptz;
BEGIN
    IF retention IS NULL OR retention < interval '0' OR at IS NULL THEN
        RAISE EXCEPTION 'the retention must not be negative, and the time not null' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- The number is bbm's class 5 of advisory locks; see docs/operations.md.
    IF NOT pg_try_advisory_xact_lock(1650617605, 0) THEN
        RETURN;
    END IF;

    FOR months_ahead IN 0..3 LOOP
        first_of_month := date_trunc('month', at) + make_interval(months => months_ahead);
        partition_name := parent || to_char(first_of_month, '_YYYY_MM');
        CONTINUE WHEN to_regclass(format('bbm.%I', partition_name)) IS NOT NULL;
        -- No row may slip into the default partition between the move and the attachment.
        EXECUTE format('LOCK TABLE bbm.%I IN ACCESS EXCLUSIVE MODE', parent || '_default');
        EXECUTE format('CREATE TABLE bbm.%I (LIKE bbm.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', partition_name, parent);
        EXECUTE format(
            'WITH moved AS (DELETE FROM bbm.%I WHERE created_at >= $1 AND created_at < $2 RETURNING *)'
            ' INSERT INTO bbm.%I SELECT * FROM moved',
            parent || '_default', partition_name
        ) USING first_of_month, first_of_month + interval '1 month';
        EXECUTE format(
            'ALTER TABLE bbm.%I ATTACH PARTITION bbm.%I FOR VALUES FROM (%L) TO (%L)',
            parent, partition_name, first_of_month, first_of_month + interval '1 month'
        );
        action := 'created';
        RETURN NEXT;
        RETURN;
    END LOOP;

    SELECT c.relname
    INTO partition_name
    FROM pg_inherits AS i
    JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent = format('bbm.%I', parent)::regclass
      AND c.relname ~ '_[0-9]{4}_[0-9]{2}$'
      AND to_timestamp(right(c.relname, 7), 'YYYY_MM') + interval '1 month' <= at - retention
    ORDER BY c.relname
    LIMIT 1;
    IF FOUND THEN
        EXECUTE format('DROP TABLE bbm.%I', partition_name);
        action := 'dropped';
        RETURN NEXT;
        RETURN;
    END IF;

    partition_name := parent || '_default';
    EXECUTE format(
        'WITH trimmed AS ('
        '    DELETE FROM bbm.%1$I WHERE ctid = ANY (ARRAY(SELECT ctid FROM bbm.%1$I WHERE created_at < $1 LIMIT 10000)) RETURNING id'
        ') SELECT ''trimmed'' FROM trimmed LIMIT 1',
        partition_name
    ) INTO action USING at - retention;
    IF action IS NOT NULL THEN
        RETURN NEXT;
    END IF;
END
$$;
-- +goose StatementEnd

COMMENT ON FUNCTION bbm.maintain_log_partitions(interval, timestamptz) IS
    'What maintain_log does, with a clock and any retention: for the owner of the schema.';

-- Runs with the owner's rights, so that a runner's role needs none on the tables' definitions; so it takes no clock, and no retention that would empty
-- the log.
-- +goose StatementBegin
CREATE FUNCTION bbm.maintain_log(retention_months integer)
RETURNS TABLE (action text, partition_name text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF retention_months IS NULL OR retention_months < 1 THEN
        RAISE EXCEPTION 'the history of jobs is kept for at least one whole month' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN QUERY SELECT m.action, m.partition_name FROM bbm.maintain_log_partitions(make_interval(months => least(retention_months, 1200)), now()) AS m;
END
$$;
-- +goose StatementEnd

COMMENT ON FUNCTION bbm.maintain_log(integer) IS
    'Makes or drops one month of the history of jobs, of which at least one whole month is kept, and returns what it did; no row: nothing is to be done.';

REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA bbm FROM PUBLIC;

-- +goose Down
DROP FUNCTION bbm.maintain_log(integer);
DROP FUNCTION bbm.maintain_log_partitions(interval, timestamptz);
DROP FUNCTION bbm.set(text, text, text, text);
DROP FUNCTION bbm.disable(text);
DROP FUNCTION bbm.enable(text);
DROP FUNCTION bbm.set_fleet(text, text, text);
DROP FUNCTION bbm.changed_by();
DROP TABLE bbm.setting_changes;
ALTER TABLE bbm.batched_background_migrations
    DROP CONSTRAINT batched_background_migrations_pause_limit_check,
    DROP CONSTRAINT batched_background_migrations_job_interval_limit_check;
ALTER TABLE bbm.batched_background_migration_transition_logs DROP COLUMN session_role;
