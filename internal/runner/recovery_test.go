package runner_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

// blocking waits for a lock in the middle of the table, so that a test can catch a runner in a sub-batch.
const blocking = `-- description: Count, and wait for a lock at row 50.
-- table: public.items
-- cursor: id
-- search_path: public
-- +bbm Work
UPDATE public.items AS i SET n = n + 1 + CASE WHEN i.id = 50 THEN public.wait_here() ELSE 0 END WHERE @batch(i)`

// block makes the blocking work wait until the function that it returns is called.
func (w *world) block() (unblock func()) {
	w.t.Helper()
	w.exec(`CREATE FUNCTION public.wait_here() RETURNS integer LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(50); RETURN 0; END $$`)
	holder := dbtest.Connect(w.t, w.url)
	_, err := holder.Exec(w.ctx, `SELECT pg_advisory_lock(50)`)
	require.NoError(w.t, err)
	return func() {
		_, err := holder.Exec(w.ctx, `SELECT pg_advisory_unlock_all()`)
		require.NoError(w.t, err)
	}
}

// blocked waits until a runner waits in the blocking work, and returns its process id.
func (w *world) blocked() int {
	w.t.Helper()
	const waiter = `SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 50 AND NOT granted
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
	w.eventually(`SELECT EXISTS (` + waiter + `)`)
	return one[int](w, waiter)
}

func TestAJobThatLostItsRunnerGoesOnWhereItWas(t *testing.T) {
	w := setup(t, 100)
	unblock := w.block()
	w.enqueue("count", "public.items", 100, 10)
	config := w.daemon()
	config.LockTimeout = time.Minute
	stop := w.start(w.runner(config, parse(t, "count", blocking)))
	first := w.blocked()
	w.exec(`SELECT pg_terminate_backend($1)`, first)
	w.eventually(`SELECT EXISTS (SELECT FROM bbm.batched_background_migration_job_transition_logs
		WHERE previous_status = 'running' AND next_status = 'pending' AND exception_class = 'RunnerLost')`)
	require.NotEqual(t, first, w.blocked(), "the runner came back with another connection")
	unblock()
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	w.eachOnce("count")
	require.Zero(t, one[int](w, `SELECT attempts FROM bbm.batched_background_migration_jobs`), "a lost runner is no failed attempt")
	require.Equal(t, 2, one[int](w, `SELECT claims FROM bbm.batched_background_migration_jobs`))
}

func TestAJobInASlotAboveThePresentNumberIsRecoveredToo(t *testing.T) {
	w := setup(t, 30)
	w.enqueue("count", "public.items", 10, 10)
	config := w.daemon()
	stop := w.start(w.runner(config, parse(t, "count", increment)))
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	// As a runner in slot 7 would have left it that was killed before its first sub-batch.
	w.exec(`SELECT bbm.enqueue('count', 'public.items', 'again', batch_size => 10)`)
	w.exec(`UPDATE public.items SET n = 0`)
	w.exec(`UPDATE bbm.batched_background_migrations AS m SET status = 'running', work_checksum = o.work_checksum, cursor_columns = o.cursor_columns,
		max_key = o.max_key, frontier_key = '{10}' FROM bbm.batched_background_migrations AS o WHERE m.name = 'again' AND o.name = 'count'`)
	w.exec(`INSERT INTO bbm.batched_background_migration_transition_logs (batched_background_migration_id, previous_status, next_status, changed_by)
		SELECT id, 'active', 'running', 'test' FROM bbm.batched_background_migrations WHERE name = 'again'`)
	w.exec(`WITH j AS (INSERT INTO bbm.batched_background_migration_jobs (batched_background_migration_id, until_key, status, slot, claims)
		SELECT id, '{10}', 'running', 7, 1 FROM bbm.batched_background_migrations WHERE name = 'again' RETURNING id)
		INSERT INTO bbm.batched_background_migration_job_transition_logs (batched_background_migration_job_id, previous_status, next_status, attempt)
		SELECT j.id, p::bbm.job_status, n::bbm.job_status, 1 FROM j, (VALUES (NULL, 'pending'), ('pending', 'running')) AS v (p, n)`)
	require.NoError(t, w.runUntilIdle(parse(t, "count", increment)))
	w.eachOnce("again")
}

func TestAStoppedRunnerLetsItsSubBatchEndAndGivesTheJobBack(t *testing.T) {
	w := setup(t, 100)
	unblock := w.block()
	w.enqueue("count", "public.items", 100, 10)
	config := w.daemon()
	config.LockTimeout = time.Minute
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan error, 1)
	r := w.runner(config, parse(t, "count", blocking))
	go func() { done <- r.Run(ctx) }()
	w.blocked()
	cancel()
	unblock()
	require.NoError(t, <-done)
	require.Equal(t, 50, one[int](w, `SELECT sum(n)::int FROM public.items`), "the sub-batch in progress was allowed to end, and was the last")
	require.Equal(t, "pending", one[string](w, `SELECT status::text FROM bbm.batched_background_migration_jobs`))
	require.Equal(t, "Interrupted", one[string](w, `SELECT exception_class FROM bbm.batched_background_migration_job_transition_logs ORDER BY id DESC LIMIT 1`))
	require.NoError(t, w.runUntilIdle(parse(t, "count", blocking)))
	w.eachOnce("count")
}

func TestASecondSignalCancelsTheSubBatchAndKeepsTheConnectionToGiveTheJobBack(t *testing.T) {
	w := setup(t, 100)
	unblock := w.block()
	w.enqueue("count", "public.items", 100, 10)
	config := w.daemon()
	config.LockTimeout = time.Minute
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan error, 1)
	r := w.runner(config, parse(t, "count", blocking))
	go func() { done <- r.Run(ctx) }()
	w.blocked()
	cancel()
	r.Interrupt()
	require.NoError(t, <-done)
	require.Equal(t, 40, one[int](w, `SELECT sum(n)::int FROM public.items`), "the cancelled sub-batch was rolled back")
	require.Equal(t, "pending", one[string](w, `SELECT status::text FROM bbm.batched_background_migration_jobs`))
	require.Equal(t, "Interrupted", one[string](w, `SELECT exception_class FROM bbm.batched_background_migration_job_transition_logs ORDER BY id DESC LIMIT 1`))
	unblock()
	require.NoError(t, w.runUntilIdle(parse(t, "count", blocking)))
	w.eachOnce("count")
}

func TestTwoMigrationsNeverRunOnOneTable(t *testing.T) {
	w := setup(t, 100)
	unblock := w.block()
	w.exec(`UPDATE bbm.fleet_settings SET slots = 4`)
	w.exec(`SELECT bbm.enqueue('count', 'public.items', 'first', batch_size => 10, sub_batch_size => 10)`)
	w.exec(`SELECT bbm.enqueue('count', 'public.items', 'second', batch_size => 10, sub_batch_size => 10)`)
	config := w.daemon()
	config.LockTimeout = time.Minute
	config.Workers = 3
	stop := w.start(w.runner(config, parse(t, "count", blocking)))
	w.blocked()
	holder := one[string](w, `SELECT name FROM bbm.batched_background_migrations WHERE status = 'running'`)

	// Paused, its last sub-batch still runs: the table is not free.
	w.exec(`WITH m AS (UPDATE bbm.batched_background_migrations SET status = 'paused' WHERE name = $1 RETURNING id)
		INSERT INTO bbm.batched_background_migration_transition_logs (batched_background_migration_id, previous_status, next_status, changed_by)
		SELECT m.id, 'running', 'paused', 'test' FROM m`, holder)
	polls := w.polls()
	require.Eventually(t, func() bool { return w.polls() > polls+5 }, 30*time.Second, time.Millisecond)
	require.Equal(t, 1, one[int](w, `SELECT count(*) FROM bbm.batched_background_migration_jobs WHERE status = 'running'`))
	unblock()
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations WHERE name <> $1`, holder)
	require.Equal(t, "paused", w.status(holder))
	w.exec(`WITH m AS (UPDATE bbm.batched_background_migrations SET status = 'active' WHERE name = $1 RETURNING id)
		INSERT INTO bbm.batched_background_migration_transition_logs (batched_background_migration_id, previous_status, next_status, changed_by)
		SELECT m.id, 'paused', 'active', 'test' FROM m`, holder)
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations WHERE name = $1`, holder)
	require.NoError(t, stop())
	require.Zero(t, one[int](w, `SELECT count(*) FROM public.items WHERE n <> 2`))
	dbtest.CheckHistory(t, w.conn, "first")
	dbtest.CheckHistory(t, w.conn, "second")
}

func TestJobsOfOneMigrationRunInParallelOverTheFleetsSlots(t *testing.T) {
	w := setup(t, 400)
	w.exec(`UPDATE bbm.fleet_settings SET slots = 3`)
	w.enqueue("count", "public.items", 10, 5)
	w.exec(`UPDATE bbm.batched_background_migrations SET parallelism = 2`)
	config := w.config()
	config.Workers = 4
	require.NoError(t, w.runner(config, parse(t, "count", increment)).Run(w.ctx))
	w.eachOnce("count")
}

// polls counts how often the runners of this test have looked and found nothing to do.
func (w *world) polls() int { return strings.Count(w.log.String(), "nothing to do") }
