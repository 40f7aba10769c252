package plans

import (
	"cmp"
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const (
	migrationsTable = "batched_background_migrations"
	jobsTable       = "batched_background_migration_jobs"
	logsTable       = "batched_background_migration_job_transition_logs"
)

// Seed fills a database that has our schema and nothing in it, and analyzes it. The tables are vacuumed and analyzed as
// autovacuum would: each that has rows, so that a month that is still empty is planned for as one that may fill.
func Seed(ctx context.Context, conn *pgx.Conn, scale Scale) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := makeMonths(ctx, tx); err != nil {
			return fmt.Errorf("make months: %w", err)
		}
		if _, err := tx.Exec(ctx, seedMigrations, scale.Migrations, scale.heavy(), firstMonth); err != nil {
			return fmt.Errorf("seed migrations: %w", err)
		}
		if _, err := tx.Exec(ctx, seedVerifications, scale.heavy()); err != nil {
			return fmt.Errorf("seed verifications: %w", err)
		}
		return withoutIndexes(ctx, tx, []string{jobsTable, logsTable}, func() error {
			if _, err := tx.Exec(ctx, seedJobs, scale.Jobs, scale.Migrations, scale.Spread, scale.heavy(), firstMonth, unsucceededEvery); err != nil {
				return fmt.Errorf("seed jobs: %w", err)
			}
			if _, err := tx.Exec(ctx, seedLogs); err != nil {
				return fmt.Errorf("seed logs: %w", err)
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, finishMigrations); err != nil {
		return fmt.Errorf("count jobs: %w", err)
	}
	return analyze(ctx, conn, cmp.Or(scale.Target, 100))
}

// makeMonths replaces the months that the schema made for the present by those of the seeded history and three ahead.
func makeMonths(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `
DO $$
DECLARE
    child record;
BEGIN
    FOR child IN
        SELECT i.inhrelid::regclass AS name
        FROM pg_inherits AS i
        JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'bbm.batched_background_migration_job_transition_logs'::regclass
          AND c.relname ~ '_[0-9]{4}_[0-9]{2}$'
    LOOP
        EXECUTE format('DROP TABLE %s', child.name);
    END LOOP;
END
$$`)
	if err != nil {
		return err
	}
	// A call makes one month, of four.
	_, err = tx.Exec(ctx, `
SELECT bbm.maintain_log_partitions('100 years', $1::text::timestamptz + make_interval(months => m))
FROM generate_series(0, $2::integer - 1) AS m, generate_series(0, 3)
ORDER BY m`, firstMonth, months)
	return err
}

// seedMigrations takes the number of migrations, the heavy one and the first month. The last hundred are not finished; the tables are
// 500, and each has seen twenty migrations.
const seedMigrations = `
INSERT INTO bbm.batched_background_migrations (
    id, name, work_name, work_checksum, table_name, table_oid, root_table_oid, cursor_columns, max_key, frontier_key, batch_size,
    parallelism, status, failure_error_code, failure_message, total_tuple_count, last_claimed_at, enqueued_by,
    created_at, updated_at, started_at, finished_at
)
OVERRIDING SYSTEM VALUE
SELECT
    s.i, 'migration_' || s.i, 'work_' || s.i % 1000, md5((s.i % 1000)::text), 'public.table_' || s.i % 500,
    100000 + s.i % 500, 100000 + s.i % 500, '{id}', ARRAY[(50000::bigint * 10000000)::text], ARRAY[(50000::bigint * 10000000)::text], 50000,
    4, s.status,
    CASE WHEN s.status = 'failed' THEN 'max_attempts'::bbm.migration_failure_code END,
    CASE WHEN s.status = 'failed' THEN 'job 1 failed in 5 of 5 attempts; the last: check_violation: new row violates a constraint' END,
    50000, s.at, 'deploy', s.at, s.at, s.at, CASE WHEN s.status = 'finished' THEN s.at + interval '1 day' END
FROM (
    SELECT
        i,
        CASE WHEN i = $2::integer THEN $3::text::timestamptz ELSE $3::text::timestamptz + interval '180 days' * i / $1::integer END AS at,
        CASE
            WHEN i = $2 THEN 'running'
            WHEN i <= $1 * 0.99 THEN 'finished'
            WHEN i % 20 = 1 THEN 'running'
            WHEN i % 5 = 2 THEN 'active'
            WHEN i % 5 = 3 THEN 'paused'
            WHEN i % 5 = 4 THEN 'failed'
            ELSE 'cancelled'
        END::bbm.migration_status AS status
    FROM generate_series(1, $1::integer) AS i
) AS s`

// seedVerifications takes the heavy migration, whose proof is under way. Of the others every second was proved by one walk.
const seedVerifications = `
INSERT INTO bbm.batched_background_migration_verifications (
    batched_background_migration_id, pass, passes_left, work_checksum, awaited_transactions, statement, until_key, progress_key,
    expected_rows, walked_rows, created_at, updated_at, finished_at
)
SELECT
    m.id, 1, 3, m.work_checksum, '{}', repeat('SELECT ', 100), m.max_key, m.max_key,
    50000, 50000, m.updated_at, m.updated_at, CASE WHEN m.id <> $1::integer THEN m.updated_at END
FROM bbm.batched_background_migrations AS m
WHERE m.id % 2 = 0
   OR m.id = $1`

// seedJobs takes the numbers of jobs, of migrations and of those that share a tenth of the jobs; the heavy migration, the first month,
// and how many jobs there are to one that waits. Jobs are made in the order of time: the heavy migration's all along, a small one's together.
const seedJobs = `
INSERT INTO bbm.batched_background_migration_jobs (
    id, batched_background_migration_id, after_key, until_key, progress_key, status, attempts, claims, slot, runner,
    processed_rows, affected_rows, next_attempt_at, exception_class, exception_message, created_at, updated_at, started_at, finished_at
)
OVERRIDING SYSTEM VALUE
SELECT
    s.i, s.migration_id, ARRAY[(50000::bigint * (s.i - 1))::text], ARRAY[(50000::bigint * s.i)::text],
    ARRAY[(50000::bigint * CASE WHEN s.status = 'succeeded' THEN s.i ELSE s.i - 1 END)::text],
    s.status, (s.status = 'failed')::integer, 1, 1, 'worker-1 4711',
    CASE WHEN s.status = 'succeeded' THEN 50000 ELSE 0 END, CASE WHEN s.status = 'succeeded' THEN 50000 ELSE 0 END,
    CASE WHEN s.status IN ('pending', 'failed') THEN s.at + interval '1 minute' END,
    CASE WHEN s.status = 'failed' THEN 'check_violation' END, CASE WHEN s.status = 'failed' THEN 'new row violates a constraint' END,
    s.at, s.at + interval '1 minute', s.at, CASE WHEN s.status = 'succeeded' THEN s.at + interval '1 minute' END
FROM (
    SELECT
        i,
        $5::text::timestamptz + interval '180 days' * (i::double precision / $1::integer) AS at,
        CASE
            WHEN i % 10 <> 0 THEN $4::integer
            ELSE 1 + ((i / 10 - 1)::bigint * $3::integer / ($1 / 10) * $2::integer / ($3 + 1))::integer
        END AS migration_id,
        CASE
            WHEN i % 10 = 0 THEN CASE WHEN i / 10 > $1 / 10 * 0.999 AND i / 10 % 10 = 0 THEN 'failed' ELSE 'succeeded' END
            WHEN i = $1 - 1 THEN 'running'
            WHEN i % ($6::integer * 2) = 1 THEN 'failed'
            WHEN i % ($6::integer * 2) = $6 + 1 THEN 'pending'
            ELSE 'succeeded'
        END::bbm.job_status AS status
    FROM generate_series(1, $1::integer) AS i
) AS s`

// seedLogs gives each job its creation, its start and its end.
const seedLogs = `
INSERT INTO bbm.batched_background_migration_job_transition_logs (
    id, batched_background_migration_job_id, created_at, previous_status, next_status, attempt, exception_class, exception_message
)
OVERRIDING SYSTEM VALUE
SELECT
    (j.id - 1) * 3 + t.step, j.id, CASE WHEN t.step < 3 THEN j.created_at ELSE j.updated_at END,
    CASE t.step WHEN 2 THEN 'pending' WHEN 3 THEN 'running' END::bbm.job_status,
    CASE t.step WHEN 1 THEN 'pending' WHEN 2 THEN 'running' ELSE j.status END, 1,
    CASE WHEN t.step = 3 THEN j.exception_class END, CASE WHEN t.step = 3 THEN j.exception_message END
FROM bbm.batched_background_migration_jobs AS j
CROSS JOIN generate_series(1, 3) AS t (step)
WHERE t.step < 3 OR j.status <> 'running'`

// finishMigrations makes the numbers of the heavy migration agree with its jobs, and lets the identities go on behind the seeded rows.
const finishMigrations = `
UPDATE bbm.batched_background_migrations AS m
SET
    frontier_key = ARRAY[(50000 * h.jobs)::text],
    max_key = ARRAY[(50000 * h.jobs * 2)::text],
    total_tuple_count = 50000 * h.jobs * 2,
    succeeded_jobs = h.succeeded,
    processed_rows = 50000 * h.succeeded,
    affected_rows = 50000 * h.succeeded
FROM (
    SELECT j.batched_background_migration_id AS id, max(j.id) AS jobs, count(*) FILTER (WHERE j.status = 'succeeded') AS succeeded
    FROM bbm.batched_background_migration_jobs AS j
    GROUP BY j.batched_background_migration_id
    ORDER BY count(*) DESC
    LIMIT 1
) AS h
WHERE m.id = h.id;
SELECT
    setval(pg_get_serial_sequence('bbm.batched_background_migrations', 'id'), (SELECT max(m.id) FROM bbm.batched_background_migrations AS m)),
    setval(pg_get_serial_sequence('bbm.batched_background_migration_jobs', 'id'), (SELECT max(j.id) FROM bbm.batched_background_migration_jobs AS j)),
    setval(
        pg_get_serial_sequence('bbm.batched_background_migration_job_transition_logs', 'id'),
        (SELECT max(l.id) FROM bbm.batched_background_migration_job_transition_logs AS l)
    );
INSERT INTO bbm.batched_background_migration_transition_logs (batched_background_migration_id, created_at, previous_status, next_status, changed_by)
SELECT m.id, m.created_at, t.previous_status, t.next_status, 'deploy'
FROM bbm.batched_background_migrations AS m
CROSS JOIN (
    VALUES
    (NULL, 'active'::bbm.migration_status),
    ('active'::bbm.migration_status, 'running')
) AS t (previous_status, next_status)`

// analyze looks at the system's tables too, as far as we may: queries read them as well.
func analyze(ctx context.Context, conn *pgx.Conn, target int) error {
	if _, err := conn.Exec(ctx, fmt.Sprintf("SET default_statistics_target = %d", target)); err != nil {
		return fmt.Errorf("set statistics target: %w", err)
	}
	rows, err := conn.Query(ctx, `
SELECT c.oid::regclass::text
FROM pg_catalog.pg_class AS c
WHERE c.relnamespace IN ('bbm'::regnamespace, 'pg_catalog'::regnamespace)
  AND NOT c.relisshared
  AND c.relkind = 'r'
  AND pg_relation_size(c.oid) > 0
ORDER BY c.relname`)
	if err != nil {
		return fmt.Errorf("list tables: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("list tables: %w", err)
	}
	for _, name := range names {
		if _, err := conn.Exec(ctx, "VACUUM (ANALYZE) "+name); err != nil {
			return fmt.Errorf("analyze %s: %w", name, err)
		}
	}
	return nil
}
