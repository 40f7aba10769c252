package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/localpg"
)

func TestAServerThatCrashesLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	const crashes = 8
	server, err := localpg.Start(t.Context(), localpg.Options{BinDir: os.Getenv(dbtest.BinVariable)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	url := server.URL("postgres")
	// Far more jobs than crashes: a run that gets ahead of the test is still not done.
	f := newFleet(t, url, 40_000, 1, "--batch-size", "500", "--sub-batch-size", "10", "--pause", "1ms")
	gate := f.command("wait", "count", "--timeout", "5m")
	require.NoError(t, gate.Start())
	f.eventually(`SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE '%name: MigrationListFacts%' AND pid <> pg_backend_pid())`)
	p := f.start("--until-idle")
	for range crashes {
		// Progress that a crash leaves: without any, a migration is held for longer and longer. Then into the middle of a job.
		before := one[int](f, `SELECT succeeded_jobs::int FROM bbm.batched_background_migrations`)
		f.eventually(`SELECT m.succeeded_jobs > $1 AND EXISTS (SELECT FROM bbm.batched_background_migration_jobs AS j
			WHERE j.status = 'running' AND j.progress_key IS DISTINCT FROM j.after_key) FROM bbm.batched_background_migrations AS m`, before)
		server.Crash()
		require.NoError(t, server.Restart(t.Context()))
		f.conn = dbtest.Connect(t, url)
	}
	require.NoError(t, p.wait())
	require.NoError(t, gate.Wait(), "the gate of a deploy waits through restarts")
	f.eachOnce()
}

func TestARestartOfTheServerIsSurvivedInMidRunAndWhileIdle(t *testing.T) {
	t.Parallel()
	server, err := localpg.Start(t.Context(), localpg.Options{BinDir: os.Getenv(dbtest.BinVariable)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	f := newFleet(t, server.URL("postgres"), 2000, 1, "--batch-size", "500", "--sub-batch-size", "10", "--pause", "1ms")
	restart := func() {
		require.NoError(t, server.Restart(t.Context()), "as pg_ctl restart -m fast")
		f.conn = dbtest.Connect(t, f.url)
	}
	p := f.start()
	f.eventually(`SELECT count(*) BETWEEN 100 AND 1500 FROM public.items WHERE n = 1`)
	restart()
	f.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	f.eachOnce()
	restart()
	f.run("enqueue", "count", "--name", "again")
	f.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations WHERE name = 'again'`)
	require.NoError(t, p.stop())
	require.Zero(t, one[int](f, `SELECT count(*) FROM public.items WHERE n <> 2`))
	dbtest.CheckHistory(t, f.conn, "again")
}
