package runner_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

func TestUntilIdleEndsThoughAnotherRunnerKeepsTheSlot(t *testing.T) {
	w := setup(t, 10)
	w.exec(`SELECT pg_advisory_lock(1650617601, 1)`)
	require.NoError(t, w.runUntilIdle(parse(t, "count", increment)), "nothing of its own is left")
}

func TestAConnectionErrorOfTheWorkIsNoLossOfOurs(t *testing.T) {
	w := setup(t, 5)
	w.exec(`CREATE FUNCTION public.remote() RETURNS integer LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no such host' USING ERRCODE = '08001'; END $$`)
	w.enqueue("count", "public.items", 10, 10)
	w.exec(`UPDATE bbm.batched_background_migrations SET max_attempts = 1`)
	require.Error(t, w.runUntilIdle(parse(t, "count", strings.Replace(increment, "n + 1", "n + public.remote()", 1))))
	require.Equal(t, "sqlclient_unable_to_establish_sqlconnection", one[string](w, `SELECT exception_class FROM bbm.batched_background_migration_jobs`))
	dbtest.CheckHistory(t, w.conn, "count")
}

func TestAMigrationThatFailsByLostRunnersIsReported(t *testing.T) {
	w := setup(t, 5)
	w.enqueue("count", "public.items", 10, 10)
	w.exec(`UPDATE bbm.batched_background_migrations SET max_attempts = 1`)
	var reports atomic.Int32
	config := w.config()
	config.Report = func(context.Context, error, map[string]string) { reports.Add(1) }
	config.UntilIdle = false
	stop := w.start(w.runner(config, parse(t, "count", strings.Replace(increment, "n + 1", "n + pg_terminate_backend(pg_backend_pid())::int", 1))))
	w.eventually(`SELECT status = 'failed' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	require.EqualValues(t, 1, reports.Load())
	dbtest.CheckHistory(t, w.conn, "count")
}

func TestTheVersionThatWasReplacedClaimsNothingMore(t *testing.T) {
	w := setup(t, 10)
	w.enqueue("count", "public.items", 5, 5)
	w.exec(`UPDATE bbm.batched_background_migrations SET job_interval = '1 hour'`)
	stop := w.start(w.runner(w.daemon(), parse(t, "count", increment)))
	w.eventually(`SELECT succeeded_jobs = 1 FROM bbm.batched_background_migrations`)
	other := dbtest.Connect(t, w.url)
	w.exec(`UPDATE bbm.batched_background_migrations SET job_interval = now() - last_claimed_at + interval '3 s'`)
	tx, err := other.Begin(w.ctx)
	require.NoError(t, err)
	_, err = tx.Exec(w.ctx, `SELECT FROM bbm.batched_background_migrations FOR UPDATE`)
	require.NoError(t, err)
	w.eventually(`SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`)
	_, err = tx.Exec(w.ctx, `UPDATE bbm.batched_background_migrations SET work_checksum = 'another'`)
	require.NoError(t, err)
	require.NoError(t, tx.Commit(w.ctx))
	polls := w.polls()
	require.Eventually(t, func() bool { return w.polls() > polls+3 }, 30*time.Second, time.Millisecond)
	require.NoError(t, stop())
	require.Equal(t, 5, one[int](w, `SELECT sum(n)::int FROM public.items`))
}

func TestMissingRightsOnOurOwnTablesHoldAMigrationAndDoNotFailIt(t *testing.T) {
	w := setup(t, 10)
	w.enqueue("count", "public.items", 5, 5)
	w.exec(`CREATE ROLE bbm_test_poor LOGIN PASSWORD 'x'`)
	t.Cleanup(func() {
		_, err := w.conn.Exec(context.Background(), `DROP OWNED BY bbm_test_poor; DROP ROLE bbm_test_poor`)
		require.NoError(t, err)
	})
	w.exec(`GRANT USAGE ON SCHEMA bbm TO bbm_test_poor`)
	w.exec(`GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA bbm, public TO bbm_test_poor`)
	w.exec(`GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA bbm TO bbm_test_poor`)
	w.exec(`REVOKE INSERT ON bbm.batched_background_migration_job_transition_logs FROM bbm_test_poor`)
	config, err := pgx.ParseConfig(w.url)
	require.NoError(t, err)
	poor := *w
	poor.url = strings.Replace(w.url, config.User+":"+config.Password+"@", "bbm_test_poor:x@", 1)
	require.NotEqual(t, w.url, poor.url)
	require.NoError(t, poor.runUntilIdle(parse(t, "count", increment)))
	require.Contains(t, one[string](w, `SELECT hold_reason FROM bbm.batched_background_migrations`), "insufficient_privilege")
	require.Equal(t, "active", w.status("count"))
}

func TestALongPauseEndsWhenItIsShortenedOrTheMigrationIsPaused(t *testing.T) {
	w := setup(t, 20)
	w.enqueue("count", "public.items", 20, 5)
	w.exec(`UPDATE bbm.batched_background_migrations SET pause = '1 hour'`)
	stop := w.start(w.runner(w.daemon(), parse(t, "count", increment)))
	w.eventually(`SELECT sum(n) = 5 FROM public.items`)
	w.exec(`UPDATE bbm.batched_background_migrations SET pause = '0'`)
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	w.eachOnce("count")

	w.exec(`UPDATE public.items SET n = 0`)
	w.exec(`SELECT bbm.enqueue('count', 'public.items', 'again', batch_size => 20, sub_batch_size => 5)`)
	w.exec(`UPDATE bbm.batched_background_migrations SET pause = '1 hour' WHERE name = 'again'`)
	stop = w.start(w.runner(w.daemon(), parse(t, "count", increment)))
	w.eventually(`SELECT sum(n) = 5 FROM public.items`)
	w.exec(`UPDATE bbm.fleet_settings SET execution_enabled = false`)
	w.eventually(`SELECT status = 'pending' FROM bbm.batched_background_migration_jobs ORDER BY id DESC LIMIT 1`)
	require.NoError(t, stop())
}

func TestWorksOfOneTextInTwoTimeZonesAreKeptApart(t *testing.T) {
	w := setup(t, 1)
	w.exec(`CREATE TABLE public.moments (id bigint PRIMARY KEY, at timestamptz)`)
	w.exec(`INSERT INTO public.moments VALUES (1)`)
	source := func(zone string) string {
		return "-- description: d\n-- table: public.moments\n-- cursor: id\n-- timezone: " + zone + "\n-- +bbm Work\nUPDATE public.moments AS m SET at = '2024-01-02 00:00:00' WHERE @batch(m)"
	}
	w.exec(`SELECT bbm.enqueue('east', 'public.moments'), bbm.enqueue('west', 'public.moments')`)
	require.NoError(t, w.runUntilIdle(parse(t, "east", source("Asia/Tokyo")), parse(t, "west", source("America/New_York"))))
	require.True(t, one[bool](w, `SELECT at = '2024-01-02 00:00:00 America/New_York' FROM public.moments`), "the later work's zone")
}
