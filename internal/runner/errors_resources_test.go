package runner_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/localpg"
	"github.com/bbm-runner/bbm-runner/internal/runner"
	"github.com/bbm-runner/bbm-runner/internal/work"
	"github.com/bbm-runner/bbm-runner/schema"
)

// What would disturb other tests is done to a server of its own, one thing after the other.
func TestAServerThatLacksSomething(t *testing.T) {
	t.Parallel()
	server, err := localpg.Start(t.Context(), localpg.Options{BinDir: os.Getenv(dbtest.BinVariable), Settings: map[string]string{
		"fsync": "off", "autovacuum": "off",
		"max_connections": "10", "superuser_reserved_connections": "0", "max_locks_per_transaction": "10",
	}})
	if errors.Is(err, localpg.ErrNotFound) {
		t.Skipf("needs a server of its own: %v", err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	for name, test := range map[string]func(*world){
		"disk": fullDisk, "locks": fullLockTable, "connections": allConnectionsTaken, "backends": killedBackends,
	} {
		t.Run(name, func(t *testing.T) {
			admin := dbtest.Connect(t, server.URL("postgres"))
			_, err := admin.Exec(t.Context(), "CREATE DATABASE "+name)
			require.NoError(t, err)
			require.NoError(t, admin.Close(t.Context()))
			config, err := pgx.ParseConfig(server.URL(name))
			require.NoError(t, err)
			_, err = schema.Up(t.Context(), config)
			require.NoError(t, err)
			test(setupOn(t, server.URL(name), 30))
		})
	}
}

// held runs a new runner until the migration is held, proves the reason, and lifts the hold.
func (w *world) held(reason string, works ...*work.Work) {
	w.t.Helper()
	require.NoError(w.t, w.runUntilIdle(works...))
	migrations, err := w.control().Status(w.ctx, "count")
	require.NoError(w.t, err)
	require.NotNil(w.t, migrations[0].WaitingFor)
	require.Contains(w.t, *migrations[0].WaitingFor, "on hold until ")
	require.Contains(w.t, *migrations[0].WaitingFor, ": "+reason+": ")
	require.NoError(w.t, w.control().Resume(w.ctx, "count", "", false))
}

// heldThrice proves that the third failure in a row without progress is a failed attempt, though each runner saw but one or two. The row to blame is
// the first of its job: the sub-batch gets smaller with each hold, so that those before it are changed.
func (w *world) heldThrice(reason string, works ...*work.Work) {
	w.t.Helper()
	w.exec(`UPDATE bbm.batched_background_migrations SET max_attempts = 2`)
	for range 4 {
		w.held(reason, works...)
	}
	var failed *runner.MigrationsFailedError
	require.ErrorAs(w.t, w.runUntilIdle(works...), &failed)
	require.Equal(w.t, []string{"pending", "pending", "failed", "pending", "pending", "failed"}, one[[]string](w, `SELECT array_agg(next_status::text ORDER BY id)
		FROM bbm.batched_background_migration_job_transition_logs WHERE previous_status = 'running' AND exception_class = $1`, reason))
	dbtest.CheckHistory(w.t, w.conn, "count")
}

func TestAWorkThatExceedsAConfiguredLimitIsAFailedAttemptAfterThreeHolds(t *testing.T) {
	w := setup(t, 30)
	w.setDatabase("temp_file_limit", "64kB")
	w.setDatabase("work_mem", "64kB")
	w.exec(`CREATE FUNCTION public.sort() RETURNS int LANGUAGE sql AS $$ SELECT count(*)::int / 100000 FROM (SELECT g FROM generate_series(1, 100000) AS g ORDER BY g DESC OFFSET 0) AS s $$`)
	w.enqueue("count", "public.items", 10, 10)
	count := poison(t, 11, "public.sort()")
	w.heldThrice("configuration_limit_exceeded", count)
	require.Equal(t, 10, one[int](w, `SELECT sum(n)::int FROM public.items WHERE id <= 20`))
	w.setDatabase("temp_file_limit", "-1")
	w.retry("count", count)
	w.eachOnce("count")
}

func fullLockTable(w *world) {
	w.exec(`CREATE FUNCTION public.hoard() RETURNS int LANGUAGE sql AS $$ SELECT 1 FROM (SELECT count(pg_advisory_xact_lock(7, g)) FROM generate_series(1, 100000) AS g) AS l $$`)
	w.enqueue("count", "public.items", 10, 10)
	count := poison(w.t, 11, "public.hoard()")
	w.heldThrice("out_of_memory", count)
	w.exec(`CREATE OR REPLACE FUNCTION public.hoard() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$`)
	w.retry("count", count)
	w.eachOnce("count")
}

func allConnectionsTaken(w *world) {
	w.enqueue("count", "public.items", 30, 5)
	goOn, stop := w.startMidway(10, w.daemon(), parse(w.t, "count", increment))
	var application []*pgx.Conn
	take := func() error {
		conn, err := pgx.Connect(w.ctx, w.url)
		if err == nil {
			application = append(application, conn)
		}
		return err
	}
	for take() == nil {
	}
	// Whoever is the first to connect gets the place that is free now: now and then that is the runner.
	full := func() bool { return w.logged("too many clients already") }
	for !full() {
		w.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'bbm-runner%' AND application_name <> 'bbm-runner listener'`)
		require.Eventually(w.t, func() bool {
			return take() == nil || full() || one[bool](w, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name LIKE 'bbm-runner%' AND application_name <> 'bbm-runner listener')`)
		}, 30*time.Second, time.Millisecond)
	}
	for _, conn := range application {
		require.NoError(w.t, conn.Close(w.ctx))
	}
	goOn()
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(w.t, stop())
	w.eachOnce("count")
	w.noAttempt()
}

// killedBackends has a work whose row 11 takes the backend down, and with it, for a moment, the whole server.
func killedBackends(w *world) {
	w.exec(`CREATE TABLE public.others (id bigint PRIMARY KEY, n integer NOT NULL DEFAULT 0); INSERT INTO public.others SELECT g FROM generate_series(1, 20) AS g`)
	w.enqueue("go", "public.items", 10, 10)
	w.enqueue("others", "public.others", 2, 1)
	w.exec(`UPDATE bbm.batched_background_migrations SET max_attempts = 1`)
	var crashes int
	kill := true
	killing := goWork(func(ctx context.Context, tx pgx.Tx, b work.Batch) (int64, error) {
		rows, err := b.Exec(ctx, tx, incrementBatch)
		if err != nil {
			return 0, err
		}
		var isBad bool
		if err := tx.QueryRow(ctx, `SELECT n = 1 FROM public.items WHERE id = 11`).Scan(&isBad); err != nil || !isBad || !kill {
			return rows, err
		}
		crashes++
		if err := syscall.Kill(int(tx.Conn().PgConn().PID()), syscall.SIGKILL); err != nil {
			return 0, err
		}
		_, err = tx.Exec(ctx, `SELECT 1`)
		return rows, err
	})
	others := parse(w.t, "others", strings.NewReplacer("items AS i", "others AS o", "@batch(i)", "@batch(o)", "items", "others").Replace(increment))
	stop := w.start(w.runner(w.daemon(), killing, others))
	require.Eventually(w.t, func() bool {
		return w.logged("migration failed: its job loses its runner every time") && w.logged(`msg="migration finished" worker=0 migration=others`)
	}, time.Minute, time.Millisecond)
	require.NoError(w.t, stop())
	require.Equal(w.t, 5, crashes)
	w.conn = dbtest.Connect(w.t, w.url)
	require.Equal(w.t, "max_attempts", one[string](w, `SELECT failure_error_code::text FROM bbm.batched_background_migrations WHERE name = 'go'`))
	require.Equal(w.t, "RunnerLost", one[string](w, `SELECT exception_class FROM bbm.batched_background_migration_jobs WHERE status = 'failed'`))
	require.Equal(w.t, "finished", w.status("others"))
	require.Zero(w.t, one[int](w, `SELECT count(*) FROM public.others WHERE n <> 1`))
	dbtest.CheckHistory(w.t, w.conn, "go")
	dbtest.CheckHistory(w.t, w.conn, "others")
	kill = false
	w.retry("go", killing, others)
	w.eachOnce("go")
}
