-- +goose Up

-- Creates a migration from SQL and returns its name; the first runner that has the work prepares it.
-- The same name with the same work, target and arguments again changes nothing. An empty target is finished at once, where no other transaction is open.
-- +goose StatementBegin
CREATE FUNCTION bbm.enqueue(
    work text,
    target regclass,
    name text DEFAULT NULL,
    arguments jsonb DEFAULT '{}',
    batch_size integer DEFAULT NULL,
    sub_batch_size integer DEFAULT NULL,
    paused boolean DEFAULT false,
    pause interval DEFAULT NULL,
    job_interval interval DEFAULT NULL,
    parallelism integer DEFAULT NULL,
    max_attempts integer DEFAULT NULL,
    on_row_error text DEFAULT NULL,
    quarantine_limit integer DEFAULT NULL
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
    new_enqueued_by constant text := bbm.changed_by();
    new_reason text;
    is_empty boolean := false;
    open_transactions text[];
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
    IF enqueue.pause NOT BETWEEN '0' AND '365 days' OR enqueue.job_interval NOT BETWEEN '0' AND '365 days' THEN
        RAISE EXCEPTION 'the pause and the interval must be from 0 to 365 days' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF enqueue.parallelism < 1 OR enqueue.max_attempts < 1 THEN
        RAISE EXCEPTION 'the parallelism and the number of attempts must be at least 1' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF enqueue.on_row_error NOT IN ('fail', 'quarantine') THEN
        RAISE EXCEPTION 'what happens on a row''s error is %; give fail or quarantine', enqueue.on_row_error USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF enqueue.quarantine_limit NOT BETWEEN 1 AND 10000 THEN
        RAISE EXCEPTION 'the quarantine limit must be from 1 to 10000' USING ERRCODE = 'invalid_parameter_value';
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

    -- A transaction in progress may have written rows that are not visible yet, or may be about to, with or without a lock on the table so far; those committed since an
    -- older snapshot are not visible here: then a runner decides. The transactions are looked at before the rows, so that a commit in between is seen by
    -- the second look.
    IF current_setting('transaction_isolation') IN ('read committed', 'read uncommitted') THEN
        open_transactions := bbm.open_transactions();
        EXECUTE format('SELECT NOT EXISTS (SELECT FROM %s)', new_table_name) INTO is_empty;
        -- The look has locked the table that it found: only now is it certain that the name stands for the target.
        IF to_regclass(new_table_name) IS DISTINCT FROM enqueue.target THEN
            RAISE EXCEPTION '% was renamed or made again meanwhile; enqueue again', new_table_name USING ERRCODE = 'object_in_use';
        END IF;
    END IF;
    IF is_empty AND cardinality(open_transactions) > 0 THEN
        is_empty := false;
        SELECT format(
            'the table is empty, but a transaction that is open may yet insert into it: a runner waits for it (%s)',
            string_agg(coalesce('process ' || l.pid, t.name), ', ' ORDER BY t.name)
        )
        INTO new_reason
        FROM unnest(open_transactions) AS t (name)
        LEFT JOIN pg_locks AS l ON l.locktype = 'virtualxid' AND l.granted AND l.mode = 'ExclusiveLock' AND l.virtualxid = t.name;
    END IF;
    IF is_empty AND NOT enqueue.paused THEN
        new_status := 'finished';
        new_reason := 'the table was empty';
    END IF;

    WITH new_migration AS (
        INSERT INTO bbm.batched_background_migrations (
            name, work_name, arguments, table_name, table_oid, root_table_oid, batch_size, sub_batch_size,
            pause, job_interval, parallelism, max_attempts, on_row_error, quarantine_limit,
            status, total_tuple_count, enqueued_by, finished_at
        )
        VALUES (
            new_name, enqueue.work, coalesce(enqueue.arguments, '{}'), new_table_name, enqueue.target,
            coalesce(pg_partition_root(enqueue.target), enqueue.target), enqueue.batch_size, enqueue.sub_batch_size,
            coalesce(enqueue.pause, '0'), coalesce(enqueue.job_interval, '0'), coalesce(enqueue.parallelism, 1), coalesce(enqueue.max_attempts, 5),
            coalesce(enqueue.on_row_error, 'fail')::bbm.row_error_policy, coalesce(enqueue.quarantine_limit, 100),
            new_status, CASE WHEN is_empty THEN 0 END, new_enqueued_by, CASE WHEN new_status = 'finished' THEN now() END
        )
        ON CONFLICT (name) DO NOTHING
        RETURNING *
    ), logged_transition AS (
        INSERT INTO bbm.batched_background_migration_transition_logs (
            batched_background_migration_id, next_status, changed_by, reason
        )
        SELECT m.id, m.status, m.enqueued_by, new_reason
        FROM new_migration AS m
        RETURNING id
    )
    SELECT m.* INTO existing FROM new_migration AS m CROSS JOIN logged_transition AS t;
    IF FOUND THEN
        IF new_reason IS NOT NULL AND new_status <> 'finished' THEN
            RAISE NOTICE '%', new_reason;
        END IF;
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

-- Pauses a migration: no job of it is started, and a running one goes back to pending after its sub-batch.
-- +goose StatementBegin
CREATE FUNCTION bbm.pause(name text, reason text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    existing bbm.batched_background_migrations;
BEGIN
    SELECT m.* INTO existing FROM bbm.batched_background_migrations AS m WHERE m.name = pause.name ORDER BY m.id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no migration "%"', pause.name USING ERRCODE = 'undefined_object';
    ELSIF existing.status = 'paused' THEN
        RETURN;
    ELSIF existing.status = 'failed' THEN
        RAISE EXCEPTION 'migration "%" has failed and does not run; nothing to pause (see: bbm-runner retry %)', pause.name, pause.name
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format('From SQL: SELECT bbm.retry(%L);', pause.name);
    ELSIF existing.status IN ('finished', 'cancelled') THEN
        RAISE EXCEPTION 'migration "%" is %; nothing to pause', pause.name, existing.status
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'It has ended.';
    END IF;

    WITH changed_migration AS (
        UPDATE bbm.batched_background_migrations AS m
        SET
            status = 'paused',
            updated_at = now()
        WHERE m.id = existing.id
          AND m.status IN ('active', 'running')
        RETURNING m.*
    )
    INSERT INTO bbm.batched_background_migration_transition_logs (
        batched_background_migration_id, created_at, previous_status, next_status, changed_by, reason
    )
    SELECT m.id, m.updated_at, existing.status, m.status, bbm.changed_by(), nullif(pause.reason, '')
    FROM changed_migration AS m;
    PERFORM pg_notify('bbm_wake', pause.name);
END
$$;
-- +goose StatementEnd

COMMENT ON FUNCTION bbm.pause(text, text) IS
    'Keeps jobs of a migration from being started, and gives a running one back after its sub-batch; one that is paused stays so.';

-- Lets a migration go on. One that is not paused keeps its status; a hold is lifted, and jobs that wait for their next attempt go at once. A last start in the
-- future, of a clock that was set back, is taken for now.
-- +goose StatementBegin
CREATE FUNCTION bbm.resume(name text, reason text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    existing bbm.batched_background_migrations;
BEGIN
    SELECT m.* INTO existing FROM bbm.batched_background_migrations AS m WHERE m.name = resume.name ORDER BY m.id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no migration "%"', resume.name USING ERRCODE = 'undefined_object';
    ELSIF existing.status = 'failed' THEN
        RAISE EXCEPTION 'migration "%" has failed; set it going again with: bbm-runner retry %', resume.name, resume.name
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format('From SQL: SELECT bbm.retry(%L);', resume.name);
    ELSIF existing.status IN ('finished', 'cancelled') THEN
        RAISE EXCEPTION 'migration "%" is %; enqueue it under another name to run it again', resume.name, existing.status
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Its name is taken; give the new one another.';
    END IF;

    UPDATE bbm.batched_background_migration_jobs AS j
    SET
        next_attempt_at = now(),
        updated_at = now()
    WHERE j.batched_background_migration_id = existing.id
      AND j.status IN ('pending', 'failed')
      AND j.next_attempt_at > now();
    UPDATE bbm.batched_background_migrations AS m
    SET
        on_hold_until = NULL,
        hold_reason = NULL,
        last_claimed_at = CASE WHEN m.last_claimed_at > now() THEN now() ELSE m.last_claimed_at END,
        updated_at = now()
    WHERE m.id = existing.id
      AND (m.on_hold_until IS NOT NULL OR m.last_claimed_at > now());

    WITH changed_migration AS (
        UPDATE bbm.batched_background_migrations AS m
        SET
            status = 'active',
            updated_at = now()
        WHERE m.id = existing.id
          AND m.status IN ('paused')
        RETURNING m.*
    )
    INSERT INTO bbm.batched_background_migration_transition_logs (
        batched_background_migration_id, created_at, previous_status, next_status, changed_by, reason
    )
    SELECT m.id, m.updated_at, existing.status, m.status, bbm.changed_by(), nullif(resume.reason, '')
    FROM changed_migration AS m;
    PERFORM pg_notify('bbm_wake', resume.name);
END
$$;
-- +goose StatementEnd

COMMENT ON FUNCTION bbm.resume(text, text) IS
    'Lets a paused migration go on; lifts a hold; jobs that wait for their next attempt are due at once.';

-- Ends a migration for good; what it has done stays done.
-- +goose StatementBegin
CREATE FUNCTION bbm.cancel(name text, reason text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    existing bbm.batched_background_migrations;
BEGIN
    SELECT m.* INTO existing FROM bbm.batched_background_migrations AS m WHERE m.name = cancel.name ORDER BY m.id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no migration "%"', cancel.name USING ERRCODE = 'undefined_object';
    ELSIF existing.status = 'cancelled' THEN
        RETURN;
    ELSIF existing.status = 'finished' THEN
        RAISE EXCEPTION 'migration "%" is finished; nothing to cancel', cancel.name
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'It has ended.';
    END IF;

    WITH changed_migration AS (
        UPDATE bbm.batched_background_migrations AS m
        SET
            status = 'cancelled',
            on_hold_until = NULL,
            hold_reason = NULL,
            updated_at = now()
        WHERE m.id = existing.id
          AND m.status IN ('paused', 'active', 'running', 'failed')
        RETURNING m.*
    )
    INSERT INTO bbm.batched_background_migration_transition_logs (
        batched_background_migration_id, created_at, previous_status, next_status, changed_by, reason
    )
    SELECT m.id, m.updated_at, existing.status, m.status, bbm.changed_by(), nullif(cancel.reason, '')
    FROM changed_migration AS m;
    PERFORM pg_notify('bbm_wake', cancel.name);
END
$$;
-- +goose StatementEnd

COMMENT ON FUNCTION bbm.cancel(text, text) IS
    'Ends a migration for good; what it has done stays done. One that is cancelled stays so.';

-- Sets a failed migration going again: its failed jobs are due at once, and the attempts of all that wait are counted anew.
-- +goose StatementBegin
CREATE FUNCTION bbm.retry(name text, reason text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    existing bbm.batched_background_migrations;
BEGIN
    SELECT m.* INTO existing FROM bbm.batched_background_migrations AS m WHERE m.name = retry.name ORDER BY m.id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no migration "%"', retry.name USING ERRCODE = 'undefined_object';
    ELSIF existing.status = 'paused' THEN
        RAISE EXCEPTION 'migration "%" is paused; let it go on with: bbm-runner resume %', retry.name, retry.name
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format('From SQL: SELECT bbm.resume(%L);', retry.name);
    ELSIF existing.status IN ('active', 'running') THEN
        RAISE EXCEPTION 'migration "%" is % and has not failed; a failed job is tried again by itself', retry.name, existing.status
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format('From SQL: SELECT bbm.resume(%L);', retry.name);
    ELSIF existing.status IN ('finished', 'cancelled') THEN
        RAISE EXCEPTION 'migration "%" is %; enqueue it under another name to run it again', retry.name, existing.status
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Its name is taken; give the new one another.';
    END IF;

    WITH changed_migration AS (
        UPDATE bbm.batched_background_migrations AS m
        SET
            status = 'active',
            failure_error_code = NULL,
            failure_message = NULL,
            on_hold_until = NULL,
            hold_reason = NULL,
            updated_at = now()
        WHERE m.id = existing.id
          AND m.status IN ('failed')
        RETURNING m.*
    )
    INSERT INTO bbm.batched_background_migration_transition_logs (
        batched_background_migration_id, created_at, previous_status, next_status, changed_by, reason
    )
    SELECT m.id, m.updated_at, existing.status, m.status, bbm.changed_by(), nullif(retry.reason, '')
    FROM changed_migration AS m;

    WITH waiting_job AS (
        SELECT j.id, j.status
        FROM bbm.batched_background_migration_jobs AS j
        WHERE j.batched_background_migration_id = existing.id
          AND j.status IN ('pending', 'failed')
        ORDER BY j.id
        FOR UPDATE
    ), reset_job AS (
        UPDATE bbm.batched_background_migration_jobs AS j
        SET
            status = 'pending',
            attempts = 0,
            stalls = 0,
            next_attempt_at = now(),
            updated_at = now()
        FROM waiting_job AS w
        WHERE j.id = w.id
        RETURNING j.id, j.updated_at, w.status AS previous_status, j.status, j.attempts
    )
    INSERT INTO bbm.batched_background_migration_job_transition_logs (
        batched_background_migration_job_id, created_at, previous_status, next_status, attempt
    )
    SELECT j.id, j.updated_at, j.previous_status, j.status, j.attempts + 1
    FROM reset_job AS j
    WHERE j.previous_status = 'failed';
    PERFORM pg_notify('bbm_wake', retry.name);
END
$$;
-- +goose StatementEnd

COMMENT ON FUNCTION bbm.retry(text, text) IS
    'Sets a failed migration going again, from where it stopped; the attempts of its jobs are counted anew.';

REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA bbm FROM PUBLIC;

-- Whoever might call the function that this one replaces may call it, and what it calls.
-- +goose StatementBegin
DO $$
DECLARE
    caller regrole;
BEGIN
    FOR caller IN
        SELECT DISTINCT a.grantee
        FROM pg_catalog.pg_proc AS p
        CROSS JOIN LATERAL pg_catalog.aclexplode(p.proacl) AS a
        WHERE p.oid = 'bbm.enqueue(text, regclass, text, jsonb, integer, integer, boolean)'::regprocedure
          AND a.grantee NOT IN (0, p.proowner)
    LOOP
        EXECUTE format(
            'GRANT EXECUTE ON FUNCTION bbm.enqueue(text, regclass, text, jsonb, integer, integer, boolean, interval, interval, integer, integer, text, integer),'
            ' bbm.open_transactions(), bbm.changed_by() TO %s', caller
        );
    END LOOP;
END
$$;
-- +goose StatementEnd
DROP FUNCTION bbm.enqueue(text, regclass, text, jsonb, integer, integer, boolean);
COMMENT ON FUNCTION bbm.enqueue IS
    'Creates a migration and returns its name; the same definition again changes nothing. On an empty table it is finished at once, where no other transaction is open.';

-- +goose Down
DROP FUNCTION bbm.retry(text, text);
DROP FUNCTION bbm.cancel(text, text);
DROP FUNCTION bbm.resume(text, text);
DROP FUNCTION bbm.pause(text, text);
DROP FUNCTION bbm.enqueue(text, regclass, text, jsonb, integer, integer, boolean, interval, interval, integer, integer, text, integer);
