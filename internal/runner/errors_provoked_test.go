package runner_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/runner"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

func TestWhatAWorkProvokesItselfIsAFailedAttemptAfterThreeTimes(t *testing.T) {
	for _, condition := range []string{
		"query_canceled", "disk_full", "insufficient_resources", "too_many_connections", "read_only_sql_transaction", "cannot_connect_now",
	} {
		t.Run(condition, func(t *testing.T) {
			w := setup(t, 30)
			w.exec(fmt.Sprintf(`CREATE FUNCTION public.provoke() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'provoked' USING ERRCODE = '%s'; END $$`, condition))
			w.enqueue("count", "public.items", 10, 10)
			count := poison(t, 11, "public.provoke()")
			w.heldThrice(condition, count)
			require.Contains(t, one[string](w, `SELECT failure_message FROM bbm.batched_background_migrations`), "3 times in a row without progress; provoked")
			w.exec(`CREATE OR REPLACE FUNCTION public.provoke() RETURNS int LANGUAGE sql AS 'SELECT 1'`)
			w.retry("count", count)
			w.eachOnce("count")
		})
	}
}

func TestARemoteServersTimeoutIsAFailedAttemptAfterThreeTimes(t *testing.T) {
	w := setup(t, 30)
	if !one[bool](w, `SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'dblink')`) {
		t.Skip("needs the extension dblink")
	}
	w.exec(`CREATE EXTENSION dblink SCHEMA public`)
	config, err := pgx.ParseConfig(w.url)
	require.NoError(t, err)
	// The server as it sees itself: in a container its address is another than ours.
	port := one[int](w, `SELECT current_setting('port')::int`)
	w.exec(fmt.Sprintf(`CREATE FUNCTION public.ask() RETURNS int LANGUAGE sql AS $$ SELECT x FROM public.dblink(
		'host=127.0.0.1 port=%d user=%s password=%s dbname=%s options=''-c statement_timeout=10''', 'SELECT 1 FROM pg_sleep(60)') AS r (x int) $$`,
		port, config.User, config.Password, config.Database))
	w.enqueue("count", "public.items", 10, 10)
	count := poison(t, 11, "public.ask()")
	w.heldThrice("query_canceled", count)
	w.exec(`CREATE OR REPLACE FUNCTION public.ask() RETURNS int LANGUAGE sql AS 'SELECT 1'`)
	w.retry("count", count)
	w.eachOnce("count")
}

func TestAnotherServersErrorInAGoWorkIsAFailedAttemptAfterThreeTimes(t *testing.T) {
	w := setup(t, 30)
	w.enqueue("go", "public.items", 30, 30)
	w.exec(`UPDATE bbm.batched_background_migrations SET max_attempts = 1`)
	isFull := true
	asking := goWork(func(ctx context.Context, tx pgx.Tx, b work.Batch) (int64, error) {
		if isFull {
			return 0, fmt.Errorf("ask the other server: %w", &pgconn.PgError{Code: "53100", Message: "no space left", Routine: "mdextend"})
		}
		return b.Exec(ctx, tx, incrementBatch)
	})
	for range 2 {
		require.NoError(t, w.runUntilIdle(asking))
		require.NoError(t, w.control().Resume(w.ctx, "go", "", false))
	}
	var failed *runner.MigrationsFailedError
	require.ErrorAs(t, w.runUntilIdle(asking), &failed)
	isFull = false
	w.retry("go", asking)
	w.eachOnce("go")
}

func TestWhoeverCancelsForAnHourSeesLongerHoldsAndNoFailedAttempt(t *testing.T) {
	w := setup(t, 100)
	unblock := w.block()
	w.enqueue("count", "public.items", 100, 1) // smaller it cannot get, which would be progress
	w.exec(`UPDATE bbm.batched_background_migrations SET awaited_transactions = '{}'`)
	config := w.daemon()
	config.LockTimeout = time.Minute
	stop := w.start(w.runner(config, parse(t, "count", blocking)))
	var before, sum time.Duration
	for sum < time.Hour {
		w.exec(`SELECT pg_cancel_backend($1)`, w.blocked())
		w.eventually(`SELECT on_hold_until > now() AND status = 'running' AND hold_reason LIKE 'query_canceled: %' FROM bbm.batched_background_migrations`)
		w.eventually(`SELECT count(*) = 0 FROM bbm.batched_background_migration_jobs WHERE status = 'running'`)
		hold := time.Duration(one[float64](w, `SELECT extract(EPOCH FROM on_hold_until - updated_at)::float8 FROM bbm.batched_background_migrations`) * float64(time.Second))
		require.GreaterOrEqual(t, hold.Round(time.Second), min(2*before, 10*time.Minute).Round(time.Second))
		before, sum = hold, sum+hold
		require.NoError(t, w.control().Resume(w.ctx, "count", "", false))
	}
	unblock()
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	w.eachOnce("count")
	w.noAttempt()
}

func TestAWorkThatCancelsItselfComesToAnEnd(t *testing.T) {
	w := setup(t, 30)
	w.exec(`CREATE FUNCTION public.cancel() RETURNS int LANGUAGE sql AS $$ SELECT 1 FROM pg_cancel_backend(pg_backend_pid()), pg_sleep(10) $$`)
	w.enqueue("count", "public.items", 30, 10)
	w.exec(`UPDATE bbm.batched_background_migrations SET max_attempts = 1`)
	count := parse(t, "count", strings.Replace(increment, "n + 1", "n + public.cancel()", 1))
	for range 19 {
		w.held("query_canceled", count)
	}
	var failed *runner.MigrationsFailedError
	require.ErrorAs(t, w.runUntilIdle(count), &failed)
	dbtest.CheckHistory(t, w.conn, "count")
}
