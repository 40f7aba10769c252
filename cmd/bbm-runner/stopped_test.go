package main

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

// A machine that sleeps does to all of its processes what SIGSTOP does to one.
func TestAStoppedRunnerLosesItsSlotAndChangesNothingWhenItWakes(t *testing.T) {
	t.Parallel()
	const (
		waits = `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 50 AND NOT granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`
		rests = `SELECT EXISTS (SELECT FROM public.items WHERE n = 1)`
	)
	for instant, prepare := range map[string]func(*fleet) (ready string, release func()){
		"in the middle of a transaction": func(f *fleet) (string, func()) {
			f.exec(`CREATE FUNCTION public.wait_here() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(50); RETURN NEW; END $$`)
			f.exec(`CREATE TRIGGER wait_here BEFORE UPDATE ON public.items FOR EACH ROW WHEN (NEW.id = 50) EXECUTE FUNCTION public.wait_here()`)
			f.exec(`SELECT pg_advisory_lock(50)`)
			return waits, func() { f.exec(`SELECT pg_advisory_unlock(50)`) }
		},
		"between two transactions": func(f *fleet) (string, func()) {
			f.run("set", "count", "pause=1h")
			return rests, func() { f.run("set", "count", "pause=0s") }
		},
	} {
		t.Run(instant, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, dbtest.New(t), 200, 1, "--batch-size", "100", "--sub-batch-size", "10")
			f.env = []string{"BBM_IDLE_TIMEOUT=1s", "BBM_LOCK_TIMEOUT=1m"}
			ready, release := prepare(f)
			stopped := f.start()
			f.eventually(ready)
			require.NoError(t, stopped.cmd.Process.Signal(syscall.SIGSTOP))
			release()
			other := f.start("--until-idle")
			require.NoError(t, other.wait(), "another one takes the job over while the first stands still")
			f.eachOnce()
			require.NotZero(t, f.lost())
			require.NoError(t, stopped.cmd.Process.Signal(syscall.SIGCONT))
			// It comes back, finds nothing of what it knew, and serves like any other.
			f.run("enqueue", "count", "--name", "again")
			f.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations WHERE name = 'again'`)
			require.NoError(t, stopped.stop())
			require.Contains(t, stopped.log.String(), "reconnecting")
			require.Zero(t, one[int](f, `SELECT count(*) FROM public.items WHERE n <> 2`))
			dbtest.CheckHistory(t, f.conn, "again")
		})
	}
}
