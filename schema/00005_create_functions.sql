-- +goose Up

-- The advisory lock by which a connected runner shows that it has a work in a version. Shared by all that have it.
CREATE FUNCTION bbm.work_lock_key(work text, checksum text) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog
RETURN ('x' || left(md5(work || ':' || checksum), 8))::bit(32)::integer;

-- Raises BBM01 unless the fence holds: what a pipelined COMMIT cannot see in a row count, it sees in an error.
-- +goose StatementBegin
CREATE FUNCTION bbm.assert_fence(held boolean) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
BEGIN
    IF held IS NOT TRUE THEN
        RAISE EXCEPTION 'the job, its slot or its transaction is no longer ours' USING ERRCODE = 'BBM01';
    END IF;
    RETURN true;
END
$$;
-- +goose StatementEnd

-- Raises BBM02 unless the name of the target still stands for the table that the migration was enqueued for. Asked behind the work, whose lock on the
-- table keeps the name where it is until the commit.
-- +goose StatementBegin
CREATE FUNCTION bbm.assert_target(table_name text, table_oid oid) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog
AS $$
BEGIN
    IF to_regclass(table_name)::oid IS DISTINCT FROM table_oid THEN
        RAISE EXCEPTION '% is not the table that the migration was enqueued for: it was renamed, dropped or made again; cancel this one and enqueue again', table_name
            USING ERRCODE = 'BBM02';
    END IF;
    RETURN true;
END
$$;
-- +goose StatementEnd

-- Makes this month and three ahead, and drops the months whose last row is older than the retention.
-- One caller at a time (others return at once); a lock that is not had within a second raises 55P03, to be tried again later.
-- Runs with the owner's rights, so that a runner's role needs none on the tables' definitions.
-- +goose StatementBegin
CREATE FUNCTION bbm.maintain_log_partitions(retention interval, at timestamptz DEFAULT now())
RETURNS TABLE (action text, partition_name text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
SET timezone = 'UTC'
AS $$
DECLARE
    parent constant text := 'batched_background_migration_job_transition_logs';
    first_of_month timestamptz;
    child record;
BEGIN
    IF retention IS NULL OR retention < interval '0' THEN
        RAISE EXCEPTION 'the retention must not be negative' USING ERRCODE = 'invalid_parameter_value';
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
    END LOOP;

    FOR child IN
        SELECT c.relname
        FROM pg_inherits AS i
        JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = format('bbm.%I', parent)::regclass
          AND c.relname ~ '_[0-9]{4}_[0-9]{2}$'
          AND to_timestamp(right(c.relname, 7), 'YYYY_MM') + interval '1 month' <= at - retention
        ORDER BY c.relname
    LOOP
        EXECUTE format('DROP TABLE bbm.%I', child.relname);
        action := 'dropped';
        partition_name := child.relname;
        RETURN NEXT;
    END LOOP;
    EXECUTE format('DELETE FROM bbm.%I WHERE created_at < $1', parent || '_default') USING at - retention;
END
$$;
-- +goose StatementEnd

-- Creates a migration from SQL and returns its name; the first runner that has the work prepares it.
-- The same name with the same work, target and arguments again changes nothing. An empty target is finished at once.
-- +goose StatementBegin
CREATE FUNCTION bbm.enqueue(
    work text,
    target regclass,
    name text DEFAULT NULL,
    arguments jsonb DEFAULT '{}',
    batch_size integer DEFAULT NULL,
    sub_batch_size integer DEFAULT NULL,
    paused boolean DEFAULT false
) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET row_security = off -- a policy that hides rows must raise: a table is not empty for it
AS $$
#variable_conflict use_column
DECLARE
    new_name constant text := coalesce(enqueue.name, enqueue.work);
    new_table_name text;
    new_kind "char";
    new_status bbm.migration_status := CASE WHEN enqueue.paused THEN 'paused' ELSE 'active' END;
    -- A program that enqueues for somebody says for whom.
    new_enqueued_by constant text := coalesce(nullif(current_setting('bbm.changed_by', true), ''), session_user);
    is_empty boolean := false;
    existing bbm.batched_background_migrations;
BEGIN
    IF coalesce(enqueue.work, '') = '' OR char_length(enqueue.work) > 100 OR enqueue.work ~ '[[:cntrl:]]' THEN
        RAISE EXCEPTION 'the name of the work must have 1 to 100 characters, none of them a control character' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF new_name = '' OR char_length(new_name) > 100 OR new_name ~ '[[:cntrl:]]' THEN
        RAISE EXCEPTION 'the name must have 1 to 100 characters, none of them a control character' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF jsonb_typeof(enqueue.arguments) <> 'object' THEN
        RAISE EXCEPTION 'the arguments must be a JSON object, as {"name": "value"}' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF enqueue.batch_size < 1 OR enqueue.sub_batch_size < 1 OR enqueue.sub_batch_size > enqueue.batch_size THEN
        RAISE EXCEPTION 'the batch size must be at least 1, and the sub-batch size from 1 to the batch size' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF enqueue.target IS NULL THEN
        RAISE EXCEPTION 'the target table must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    SELECT format('%I.%I', n.nspname, c.relname), c.relkind
    INTO new_table_name, new_kind
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = enqueue.target;
    IF new_kind IS NULL OR new_kind NOT IN ('r', 'p') THEN
        RAISE EXCEPTION '% is not a table', coalesce(new_table_name, enqueue.target::text) USING ERRCODE = 'wrong_object_type';
    END IF;

    -- A transaction in progress that has read or written the table may write to it, and its rows are not visible yet; those committed since an older snapshot are not visible here:
    -- then a runner decides. The locks are looked at before the rows, so that a commit in between is seen by the second look.
    IF current_setting('transaction_isolation') IN ('read committed', 'read uncommitted') THEN
        SELECT NOT EXISTS (
            SELECT
            FROM pg_locks AS l
            WHERE l.locktype = 'relation'
              AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
              AND l.pid IS DISTINCT FROM pg_backend_pid()
              AND (
                  l.relation = enqueue.target
                  OR l.relation IN (SELECT t.relid FROM pg_partition_tree(enqueue.target) AS t)
              )
        )
        INTO is_empty;
    END IF;
    IF is_empty THEN
        EXECUTE format('SELECT NOT EXISTS (SELECT FROM %s)', new_table_name) INTO is_empty;
    END IF;
    IF is_empty AND NOT enqueue.paused THEN
        new_status := 'finished';
    END IF;

    WITH new_migration AS (
        INSERT INTO bbm.batched_background_migrations (
            name, work_name, arguments, table_name, table_oid, root_table_oid, batch_size, sub_batch_size,
            status, total_tuple_count, enqueued_by, finished_at
        )
        VALUES (
            new_name, enqueue.work, coalesce(enqueue.arguments, '{}'), new_table_name, enqueue.target,
            coalesce(pg_partition_root(enqueue.target), enqueue.target), enqueue.batch_size, enqueue.sub_batch_size,
            new_status, CASE WHEN is_empty THEN 0 END, new_enqueued_by, CASE WHEN new_status = 'finished' THEN now() END
        )
        ON CONFLICT (name) DO NOTHING
        RETURNING *
    ), logged_transition AS (
        INSERT INTO bbm.batched_background_migration_transition_logs (
            batched_background_migration_id, next_status, changed_by, reason
        )
        SELECT m.id, m.status, m.enqueued_by, CASE WHEN m.status = 'finished' THEN 'the table was empty' END
        FROM new_migration AS m
        RETURNING id
    )
    SELECT m.* INTO existing FROM new_migration AS m CROSS JOIN logged_transition AS t;
    IF FOUND THEN
        PERFORM pg_notify('bbm_wake', new_name);
        RETURN new_name;
    END IF;

    SELECT m.* INTO STRICT existing FROM bbm.batched_background_migrations AS m WHERE m.name = new_name;
    IF existing.work_name <> enqueue.work
        OR existing.table_oid <> enqueue.target
        OR (SELECT jsonb_object_agg(a.key, a.value) FROM jsonb_each_text(existing.arguments) AS a)
            IS DISTINCT FROM (SELECT jsonb_object_agg(a.key, a.value) FROM jsonb_each_text(coalesce(enqueue.arguments, '{}')) AS a)
    THEN
        RAISE EXCEPTION 'the name "%" is taken by a migration with another definition', new_name
            USING ERRCODE = 'duplicate_object',
                DETAIL = format('It runs the work "%s" on %s with the arguments %s.', existing.work_name, existing.table_name, existing.arguments),
                HINT = 'Give this one a name of its own.';
    END IF;
    RETURN new_name;
END
$$;
-- +goose StatementEnd

-- Raises unless the migration is finished: the gate of a later schema migration.
-- +goose StatementBegin
CREATE FUNCTION bbm.assert_finished(name text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    current_status bbm.migration_status;
BEGIN
    SELECT m.status INTO current_status FROM bbm.batched_background_migrations AS m WHERE m.name = assert_finished.name;
    IF current_status IS NULL THEN
        RAISE EXCEPTION 'there is no batched background migration "%"', assert_finished.name
            USING ERRCODE = 'undefined_object', HINT = 'Enqueue it in an earlier schema migration.';
    ELSIF current_status <> 'finished' THEN
        RAISE EXCEPTION 'the batched background migration "%" is %, not finished', assert_finished.name, current_status
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format('See: bbm-runner status %s', assert_finished.name);
    END IF;
END
$$;
-- +goose StatementEnd

REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA bbm FROM PUBLIC;

SELECT FROM bbm.maintain_log_partitions('100 years');

-- +goose Down
DROP FUNCTION bbm.assert_finished(text);
DROP FUNCTION IF EXISTS bbm.enqueue(text, regclass, text, jsonb, integer, integer, boolean);
DROP FUNCTION IF EXISTS bbm.maintain_log_partitions(interval, timestamptz);
DROP FUNCTION bbm.assert_target(text, oid);
DROP FUNCTION bbm.assert_fence(boolean);
DROP FUNCTION bbm.work_lock_key(text, text);
