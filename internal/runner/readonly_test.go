package runner_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/localpg"
	"github.com/bbm-runner/bbm-runner/internal/runner"
	"github.com/bbm-runner/bbm-runner/schema"
)

// braked makes later sessions of a database read-only, or not, as who administers it may. The
// world's own session goes on writing.
func (w *world) braked(value string) {
	w.t.Helper()
	w.setDatabase("default_transaction_read_only", value)
}

// waitsUntilItMayWrite waits until status says that a migration does not run since the database is
// read-only.
func (w *world) waitsUntilItMayWrite(name string) {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		migrations, err := w.control().Status(w.ctx, name)
		require.NoError(w.t, err)
		return migrations[0].WaitingFor != nil && *migrations[0].WaitingFor == readOnlyReason
	}, 30*time.Second, 5*time.Millisecond)
}

const readOnlyReason = "the database is read-only for its runners (default_transaction_read_only is on): whoever has set it turns it off"

func TestADatabaseThatIsMadeReadOnlyHoldsItsRunnersAndGoesOnWhenItIsNot(t *testing.T) {
	w := setup(t, 100)
	w.enqueue("count", "public.items", 10, 5)
	w.braked("on")
	stop := w.start(w.runner(w.daemon(), parse(t, "count", increment)))
	w.waitsUntilItMayWrite("count")
	require.Zero(t, one[int](w, `SELECT sum(n)::int FROM public.items`))
	require.Zero(t, one[int](w, `SELECT count(*) FROM bbm.batched_background_migration_jobs`))
	require.Eventually(t, func() bool { return w.logged("execution waits") && w.logged("default_transaction_read_only") }, 30*time.Second, time.Millisecond)
	require.Equal(t, 1, w.counted("execution waits"), "said once")
	w.braked("off")
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	w.eachOnce("count")
	w.noAttempt()
}

func TestARunUntilIdleTellsOfADatabaseThatIsReadOnly(t *testing.T) {
	w := setup(t, 10)
	w.enqueue("count", "public.items", 10, 5)
	w.braked("on")
	require.ErrorIs(t, w.runUntilIdle(parse(t, "count", increment)), runner.ErrReadOnly)
	require.Zero(t, one[int](w, `SELECT sum(n)::int FROM public.items`))
}

func TestAServerThatIsMadeReadOnlyInTheMiddleOfAJobKeepsTheJobWaiting(t *testing.T) {
	t.Parallel()
	server, err := localpg.Start(t.Context(), localpg.Options{BinDir: os.Getenv(dbtest.BinVariable), Settings: map[string]string{"fsync": "off"}})
	if errors.Is(err, localpg.ErrNotFound) {
		t.Skipf("needs a server of its own: %v", err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	config, err := pgx.ParseConfig(server.URL("postgres"))
	require.NoError(t, err)
	_, err = schema.Up(t.Context(), config)
	require.NoError(t, err)
	w := setupOn(t, server.URL("postgres"), 100)
	w.exec(`SET default_transaction_read_only = off`) // the test's own session
	brake := func(value string) {
		w.exec(`ALTER SYSTEM SET default_transaction_read_only = ` + value)
		w.exec(`SELECT pg_reload_conf()`)
	}
	w.enqueue("count", "public.items", 50, 5)

	goOn, stop := w.startMidway(10, w.daemon(), parse(t, "count", increment))
	brake("on")
	goOn()
	w.waitsUntilItMayWrite("count")
	require.Equal(t, "running", one[string](w, `SELECT status::text FROM bbm.batched_background_migration_jobs`))
	require.Equal(t, 10, one[int](w, `SELECT sum(n)::int FROM public.items`))
	brake("off")
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	w.eachOnce("count")
	w.noAttempt()
	require.Zero(t, one[int](w, `SELECT count(*) FROM bbm.batched_background_migration_job_transition_logs WHERE exception_class IS NOT NULL`), "it went on where it was")

	t.Run("and one that is stopped meanwhile leaves it to the next", func(t *testing.T) {
		w.t = t
		w.exec(`UPDATE public.items SET n = 0`)
		w.exec(`DROP FUNCTION public.rest() CASCADE`)
		w.exec(`SELECT bbm.enqueue('count', 'public.items', 'again', batch_size => 50, sub_batch_size => 5)`)
		goOn, stop := w.startMidway(10, w.daemon(), parse(t, "count", increment))
		brake("on")
		goOn()
		w.waitsUntilItMayWrite("again")
		require.NoError(t, stop())
		brake("off")
		require.NoError(t, w.runUntilIdle(parse(t, "count", increment)))
		w.eachOnce("again")
		w.noAttempt()
	})
	t.Run("and the success of a job is recorded later", func(t *testing.T) {
		w.t = t
		w.exec(`UPDATE public.items SET n = 0`)
		w.exec(`DROP FUNCTION public.rest() CASCADE`)
		w.exec(`CREATE TABLE public.reload (n int)`)
		// The work itself makes the server read-only, behind its last row: ALTER SYSTEM cannot be called
		// in a function, so the test does when it sees the row.
		w.exec(`CREATE FUNCTION public.wait_for_reload() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN
			PERFORM pg_advisory_xact_lock(5); RETURN NULL; END $f$`)
		w.exec(`CREATE TRIGGER wait AFTER UPDATE ON public.items FOR EACH ROW WHEN (NEW.id = 100) EXECUTE FUNCTION public.wait_for_reload()`)
		w.exec(`SELECT pg_advisory_lock(5)`)
		w.exec(`SELECT bbm.enqueue('count', 'public.items', 'third', batch_size => 50, sub_batch_size => 5)`)
		config := w.daemon()
		config.LockTimeout = time.Minute
		stop := w.start(w.runner(config, parse(t, "count", increment)))
		w.eventually(`SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 5 AND NOT granted)`)
		brake("on")
		w.exec(`SELECT pg_advisory_unlock(5)`)
		w.waitsUntilItMayWrite("third")
		require.Zero(t, one[int](w, `SELECT count(*) FROM public.items WHERE n <> 1`))
		brake("off")
		w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations WHERE name = 'third'`)
		require.NoError(t, stop())
		w.eachOnce("third")
		w.noAttempt()
	})
}

func TestTheLogTellsOnceThatTheFleetIsDisabledAndThatItIsEnabledAgain(t *testing.T) {
	w := setup(t, 10)
	w.exec(`SELECT set_config('bbm.changed_by', 'alice', false)`)
	require.NoError(t, w.control().SetEnabled(w.ctx, false, "replica lag"))
	config := w.daemon()
	config.Workers = 3
	stop := w.start(w.runner(config, parse(t, "count", increment)))
	require.Eventually(t, func() bool { return w.counted("reason=\"execution is off: the fleet is disabled") >= 4 }, 30*time.Second, time.Millisecond)
	w.enqueue("count", "public.items", 10, 5)
	require.NoError(t, w.control().SetEnabled(w.ctx, true, ""))
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	require.Equal(t, 1, w.counted("execution waits"))
	require.Equal(t, 1, w.counted("execution goes on"))
	require.True(t, w.logged("test@host") && w.logged("replica lag"), "who and why")
}
