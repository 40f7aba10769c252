-- +goose Up

-- How each migration stands, and why it waits: for whoever looks by psql, and for the command line, which reads it too.
-- Succeeded jobs are counted in the row of the migration: only the others are looked at, and the last ten for the rate. The lock table is read once.
-- A condition on name or id reaches the tables, so that one migration is looked up by its index.
CREATE VIEW bbm.status AS
WITH held_lock AS MATERIALIZED (
    SELECT l.locktype, l.database, l.virtualxid::text AS virtualxid, l.classid::bigint AS class, l.objid::bigint AS key, l.objsubid, l.pid
    FROM pg_catalog.pg_locks AS l
    WHERE l.locktype IN ('advisory', 'virtualxid')
      AND l.granted
), bbm_lock AS MATERIALIZED (
    SELECT h.class, h.key, h.pid
    FROM held_lock AS h
    WHERE h.locktype = 'advisory'
      AND h.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = current_database())
      AND h.class IN (1650617601, 1650617603, 1650617604)
      AND h.objsubid = 2
), open_transaction AS MATERIALIZED (
    SELECT h.virtualxid AS transaction, format('process %s', h.pid) AS owner
    FROM held_lock AS h
    WHERE h.locktype = 'virtualxid'
    UNION ALL
    SELECT 'prepared ' || p.transaction::text, format('prepared transaction %L', p.gid)
    FROM pg_catalog.pg_prepared_xacts AS p
), running_job AS MATERIALIZED (
    -- The lock of its slot tells whether a session executes it.
    SELECT
        m.id AS migration_id,
        m.name,
        m.root_table_oid,
        (SELECT min(b.pid) FROM bbm_lock AS b WHERE b.class = 1650617601 AND b.key = j.slot) AS pid
    FROM bbm.batched_background_migration_jobs AS j
    JOIN bbm.batched_background_migrations AS m ON m.id = j.batched_background_migration_id
    WHERE j.status = 'running'
      AND j.slot IS NOT NULL
), fleet AS MATERIALIZED (
    SELECT
        f.slots,
        CASE
            WHEN f.execution_enabled THEN NULL
            WHEN h.new_value = 'true' THEN 'the fleet is disabled; the history does not tell by whom'
            -- Who changed it before changes of settings were recorded, a program or a person at a host, has left that name.
            WHEN h.new_value IS NULL AND f.reason IS NULL AND strpos(f.changed_by, '@') = 0
                THEN 'the fleet has never been enabled; to enable it: bbm-runner enable, or in SQL: SELECT bbm.enable()'
            ELSE 'the fleet is disabled by ' || f.changed_by || coalesce(': ' || nullif(f.reason, ''), '')
        END AS why_disabled,
        (SELECT count(DISTINCT b.pid) FROM bbm_lock AS b WHERE b.class = 1650617604 AND b.key = 1) AS enabled_runners,
        (SELECT count(DISTINCT b.pid) FROM bbm_lock AS b WHERE b.class = 1650617604 AND b.key = 0) AS disabled_runners,
        (SELECT count(DISTINCT b.pid) FROM bbm_lock AS b WHERE b.class = 1650617604 AND b.key = 2) AS read_only_runners,
        (SELECT count(DISTINCT b.key) FROM bbm_lock AS b WHERE b.class = 1650617601 AND b.key BETWEEN 1 AND f.slots) AS locked_slots
    FROM bbm.fleet_settings AS f
    LEFT JOIN LATERAL (
        SELECT c.new_value
        FROM bbm.setting_changes AS c
        WHERE c.batched_background_migration_id IS NULL
          AND c.setting = 'execution_enabled'
        ORDER BY c.id DESC
        LIMIT 1
    ) AS h ON true
    WHERE f.id
)

SELECT
    m.id,
    m.name,
    m.work_name AS work,
    m.table_name,
    m.status,
    CASE
        WHEN m.status = 'finished' THEN 1
        WHEN d.processed_rows <= 0 THEN 0
        -- All of the estimate is done, or there is none: the table may have grown.
        ELSE coalesce(least(d.processed_rows::double precision / nullif(greatest(d.total_rows, 0), 0), 0.999), 0.999)
    END::double precision AS progress,
    d.processed_rows,
    d.total_rows,
    d.affected_rows,
    p.rows_per_second,
    CASE WHEN d.total_rows > d.processed_rows THEN ceil((d.total_rows - d.processed_rows) / p.exact_rows_per_second) END::bigint AS eta_seconds,
    u.pending_jobs,
    u.running_jobs,
    u.failed_jobs,
    m.succeeded_jobs,
    r.waiting_for::text AS waiting_for,
    ARRAY(SELECT j.pid FROM running_job AS j WHERE j.migration_id = m.id AND j.pid IS NOT NULL ORDER BY j.pid)::integer[] AS executing_pids,
    u.moved_at::timestamptz AS moved_at,
    CASE WHEN m.on_hold_until > t.now THEN m.on_hold_until END::timestamptz AS on_hold_until,
    CASE WHEN m.on_hold_until > t.now THEN m.hold_reason END::text AS hold_reason,
    m.failure_error_code::text AS failure_code,
    m.failure_message,
    b.id AS failed_row_job,
    b.attempts AS failed_row_attempts,
    b.exception_key AS failed_row_key,
    b.exception_class AS failed_row_exception_class,
    b.exception_message AS failed_row_exception_message,
    b.exception_constraint AS failed_row_exception_constraint,
    m.quarantined_rows,
    w.pass AS verification_pass,
    CASE
        WHEN w.pass IS NULL THEN NULL
        WHEN w.walked_rows <= 0 THEN 0
        ELSE coalesce(least(w.walked_rows::double precision / nullif(greatest(w.expected_rows, 0), 0), 0.999), 0.999)
    END::double precision AS verification_progress,
    w.walked_rows AS verification_walked_rows,
    w.remaining_rows AS verification_remaining_rows,
    CASE WHEN m.status = 'finished' THEN m.verified_at END::timestamptz AS verified_at,
    CASE WHEN m.status = 'finished' THEN m.verified_rows END::bigint AS verified_rows,
    m.enqueued_by,
    m.created_at,
    m.started_at,
    m.finished_at
FROM bbm.batched_background_migrations AS m
CROSS JOIN fleet AS f
CROSS JOIN LATERAL (
    SELECT
        count(*) FILTER (WHERE j.status = 'pending') AS pending_jobs,
        count(*) FILTER (WHERE j.status = 'running') AS running_jobs,
        count(*) FILTER (WHERE j.status = 'failed') AS failed_jobs,
        coalesce(sum(j.processed_rows) FILTER (WHERE j.pass = 0), 0)::bigint AS processed_rows,
        coalesce(sum(j.affected_rows), 0)::bigint AS affected_rows,
        max(j.updated_at) FILTER (WHERE j.status = 'running') AS moved_at
    FROM bbm.batched_background_migration_jobs AS j
    WHERE j.batched_background_migration_id = m.id
      AND j.finished_at IS NULL
) AS u
LEFT JOIN LATERAL (
    SELECT j.next_attempt_at
    FROM bbm.batched_background_migration_jobs AS j
    WHERE j.batched_background_migration_id = m.id
      AND j.status IN ('pending', 'failed')
    ORDER BY j.next_attempt_at, j.id
    LIMIT 1
) AS n ON true
LEFT JOIN LATERAL (
    SELECT l.next_status, l.changed_by, l.reason
    FROM bbm.batched_background_migration_transition_logs AS l
    WHERE l.batched_background_migration_id = m.id
    ORDER BY l.id DESC
    LIMIT 1
) AS c ON true
LEFT JOIN LATERAL (
    SELECT j.id, j.attempts, j.exception_key, j.exception_class, j.exception_message, j.exception_constraint
    FROM bbm.batched_background_migration_jobs AS j
    WHERE j.batched_background_migration_id = m.id
      AND j.status = 'failed'
      AND j.finished_at IS NULL
      AND j.exception_key IS NOT NULL
    ORDER BY j.id
    LIMIT 1
) AS b ON true
LEFT JOIN LATERAL (
    -- The walk under way, if any; what it waits for counts until it has begun.
    SELECT
        v.pass,
        v.walked_rows,
        v.expected_rows,
        v.remaining_rows,
        v.updated_at,
        CASE WHEN v.statement IS NULL THEN v.awaited_transactions END AS awaited_transactions
    FROM bbm.batched_background_migration_verifications AS v
    WHERE v.batched_background_migration_id = m.id
      AND v.finished_at IS NULL
      AND m.status IN ('paused', 'active', 'running')
    ORDER BY v.pass DESC
    LIMIT 1
) AS w ON true
CROSS JOIN LATERAL (
    SELECT
        coalesce(sum(j.processed_rows), 0)::double precision AS rows,
        extract(EPOCH FROM max(j.updated_at) - min(j.started_at))::double precision AS seconds
    FROM (
        SELECT l.processed_rows, l.started_at, l.updated_at
        FROM bbm.batched_background_migration_jobs AS l
        -- Rows are compared so that no plan reads the newer jobs of other migrations.
        WHERE (l.batched_background_migration_id, l.id) <= (m.id, 9223372036854775807)
          AND l.batched_background_migration_id >= m.id
          AND m.status = 'running'
        ORDER BY l.batched_background_migration_id DESC, l.id DESC
        LIMIT 10
    ) AS j
) AS s
CROSS JOIN LATERAL (
    SELECT
        statement_timestamp() AS now,
        EXISTS (SELECT FROM running_job AS j WHERE j.migration_id = m.id AND j.pid IS NOT NULL) AS is_executed,
        m.last_claimed_at + m.job_interval AS next_job_at,
        extract(EPOCH FROM m.job_interval) AS interval_seconds
) AS t
CROSS JOIN LATERAL (
    SELECT
        (m.processed_rows + u.processed_rows)::bigint AS processed_rows,
        (m.affected_rows + u.affected_rows)::bigint AS affected_rows,
        coalesce(m.total_tuple_count, 0)::bigint AS total_rows
) AS d
CROSS JOIN LATERAL (
    -- The first reason that holds: what people and the database have stopped, then what concerns the whole fleet, then what concerns this migration,
    -- then what passes by itself. The table in docs/operations.md has the same order.
    SELECT CASE
        WHEN m.status = 'paused' AND c.next_status = 'paused' THEN 'paused by ' || c.changed_by || coalesce(': ' || nullif(c.reason, ''), '')
        WHEN m.status = 'paused' THEN 'paused; the history does not tell by whom'
        WHEN m.status NOT IN ('active', 'running') THEN NULL
        -- They keep the jobs that they are at.
        WHEN f.read_only_runners > 0 AND f.read_only_runners >= f.enabled_runners
            THEN 'the database is read-only for its runners (default_transaction_read_only is on): whoever has set it turns it off'
        WHEN t.is_executed THEN NULL
        WHEN f.why_disabled IS NOT NULL THEN f.why_disabled
        WHEN m.on_hold_until > t.now
            THEN format('on hold until %s: %s', to_char(m.on_hold_until AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), m.hold_reason)
        WHEN f.enabled_runners = 0 AND f.disabled_runners = 0 THEN 'no runner is connected'
        WHEN f.enabled_runners = 0 THEN format('the parameter "enabled" is off in every connected runner (%s)', f.disabled_runners)
        WHEN NOT EXISTS (
            SELECT
            FROM bbm_lock AS l
            WHERE l.class = 1650617603
              AND l.key = (bbm.work_lock_key(m.work_name, coalesce(m.work_checksum, ''))::bigint & 4294967295)
        ) THEN CASE
            WHEN EXISTS (
                SELECT
                FROM bbm_lock AS l
                WHERE l.class = 1650617603
                  AND l.key = (bbm.work_lock_key(m.work_name, 'broken')::bigint & 4294967295)
            ) THEN format('waiting for a runner that has the work "%s"; it is broken in one that is connected, whose log tells the mistake', m.work_name)
            WHEN m.work_checksum IS NULL THEN format('waiting for a runner that has the work "%s"', m.work_name)
            ELSE format('waiting for a runner with this version of the work (%s)', m.work_checksum)
        END
        WHEN a.owners IS NOT NULL THEN 'waiting for older transactions to end: ' || a.owners
        WHEN h.name IS NOT NULL THEN format('waiting for its table, on which migration "%s" runs', h.name)
        WHEN f.locked_slots >= f.slots
            -- The runner that prepared it, or ended a job of it, a moment ago keeps the slot while it claims the next job.
            AND NOT (m.max_key IS NOT NULL AND t.now - m.updated_at < interval '1 second')
            -- So does one that reads the next piece of a walk, for a statement's time at the longest.
            AND NOT (w.pass IS NOT NULL AND t.now - w.updated_at < interval '1 minute')
            THEN format('waiting for a slot: all in use (%s)', f.slots)
        WHEN u.running_jobs > 0 THEN 'its runner is lost; the next poll of another puts the job back'
        -- No new job can be cut.
        WHEN m.frontier_key = m.max_key AND n.next_attempt_at > t.now
            THEN format('waiting until %s for the next attempt of a job', to_char(n.next_attempt_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))
        -- Not just by the clocks of two transactions.
        WHEN m.last_claimed_at > t.now + interval '1 minute'
            THEN format(
                'the clock of the server was set back: its last job started at %s; to go on: bbm-runner resume %s',
                to_char(m.last_claimed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), m.name
            )
        -- A walk keeps no interval.
        WHEN t.next_job_at > t.now AND w.pass IS NULL
            THEN format(
                'waiting until %s for its interval of %s',
                to_char(t.next_job_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                CASE
                    WHEN t.interval_seconds < 1 THEN trim_scale(t.interval_seconds * 1000) || 'ms'
                    ELSE concat(
                        CASE WHEN t.interval_seconds >= 3600 THEN div(t.interval_seconds, 3600) || 'h' END,
                        CASE WHEN t.interval_seconds >= 60 THEN div(mod(t.interval_seconds, 3600), 60) || 'm' END,
                        trim_scale(mod(t.interval_seconds, 60)) || 's'
                    )
                END
            )
    END AS waiting_for
    FROM (
        SELECT string_agg(o.owner, ', ' ORDER BY o.owner) AS owners
        FROM open_transaction AS o
        WHERE o.transaction = ANY (CASE WHEN m.max_key IS NULL THEN m.awaited_transactions ELSE w.awaited_transactions END)
    ) AS a
    LEFT JOIN LATERAL (
        -- Another migration on its table: one that holds it, or one whose last job runs on.
        SELECT o.name
        FROM (
            SELECT k.id, k.name
            FROM bbm.batched_background_migrations AS k
            WHERE k.status = 'running'
              AND k.root_table_oid = m.root_table_oid
            UNION ALL
            SELECT j.migration_id, j.name
            FROM running_job AS j
            WHERE j.root_table_oid = m.root_table_oid
        ) AS o
        WHERE o.id <> m.id
        ORDER BY o.id
        LIMIT 1
    ) AS h ON true
    OFFSET 0 -- it is used twice, and decided once
) AS r
CROSS JOIN LATERAL (
    -- Known of what goes; an interval is part of the pace.
    SELECT
        round(e.rows_per_second::numeric, 1)::double precision AS rows_per_second,
        e.rows_per_second AS exact_rows_per_second
    FROM (
        SELECT CASE
            WHEN m.status = 'running'
                AND (t.is_executed OR (r.waiting_for IS NULL AND w.pass IS NULL) OR t.next_job_at > t.now)
                AND s.rows > 0
                AND s.seconds > 0
                THEN s.rows / s.seconds
        END AS rows_per_second
    ) AS e
) AS p;

COMMENT ON VIEW bbm.status IS 'How each migration stands, and why it waits: what bbm-runner status shows. Estimates and times are those of this moment. Where there are many: SET jit = off.';
COMMENT ON COLUMN bbm.status.work IS 'The name of the work.';
COMMENT ON COLUMN bbm.status.table_name IS 'The target, as it was named at the enqueue.';
COMMENT ON COLUMN bbm.status.progress IS 'From 0 to 1, by an estimate; 1 only when finished.';
COMMENT ON COLUMN bbm.status.processed_rows IS 'Rows walked over, those of jobs in progress included.';
COMMENT ON COLUMN bbm.status.total_rows IS 'An estimate; 0: none yet.';
COMMENT ON COLUMN bbm.status.affected_rows IS 'Rows that were changed.';
COMMENT ON COLUMN bbm.status.rows_per_second IS 'Of the last ten jobs; null: unknown, or it does not run.';
COMMENT ON COLUMN bbm.status.eta_seconds IS 'How long the remaining rows take at that speed; null: unknown, or it does not run.';
COMMENT ON COLUMN bbm.status.waiting_for IS 'Why it does not progress, though it could; null: it does, or has ended. docs/operations.md has a table of the reasons.';
COMMENT ON COLUMN bbm.status.executing_pids IS 'The server processes that execute its jobs now: pg_blocking_pids tells who is in their way.';
COMMENT ON COLUMN bbm.status.moved_at IS 'When a job in progress committed its last sub-batch, or was begun; null: none is in progress.';
COMMENT ON COLUMN bbm.status.on_hold_until IS 'Until then it is not claimed, after an error that should pass; null: no hold is in force.';
COMMENT ON COLUMN bbm.status.hold_reason IS 'The error.';
COMMENT ON COLUMN bbm.status.failure_code IS 'Why it has failed; null: it has not.';
COMMENT ON COLUMN bbm.status.failure_message IS 'The same for people.';
COMMENT ON COLUMN bbm.status.failed_row_job IS 'The oldest job whose last attempt failed on one row; null: there is none.';
COMMENT ON COLUMN bbm.status.failed_row_attempts IS 'How often that job has failed.';
COMMENT ON COLUMN bbm.status.failed_row_key IS 'The row: a text for each column of the cursor.';
COMMENT ON COLUMN bbm.status.quarantined_rows IS 'Rows that failed alone and are left out now.';
COMMENT ON COLUMN bbm.status.verification_pass IS 'The walk under way that looks for rows which remain, from 1; null: none is.';
COMMENT ON COLUMN bbm.status.verification_progress IS 'From 0 to 1, by an estimate.';
COMMENT ON COLUMN bbm.status.verification_walked_rows IS 'Rows that it has looked at.';
COMMENT ON COLUMN bbm.status.verification_remaining_rows IS 'Rows that it has found so far.';
COMMENT ON COLUMN bbm.status.verified_at IS 'When such a walk had proved the finished migration done; null: not finished, or the work does not say what remains.';
COMMENT ON COLUMN bbm.status.verified_rows IS 'How many rows that walk has looked at.';

-- +goose Down
DROP VIEW bbm.status;
