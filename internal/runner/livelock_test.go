package runner_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/runner"
)

// poisons spoil the first row of the table for ever; the cure ends that.
var poisons = map[string]func(w *world) (cure func()){
	"fails": func(w *world) func() {
		w.exec(`ALTER TABLE public.items ADD CONSTRAINT bad CHECK (id <> 1 OR n = 0)`)
		return func() { w.exec(`ALTER TABLE public.items DROP CONSTRAINT bad`) }
	},
	"contends": func(w *world) func() {
		holder := w.holder(`SELECT FROM public.items WHERE id = 1 FOR UPDATE`)
		return func() { require.NoError(w.t, holder.Rollback(w.ctx)) }
	},
	"loses its runner": func(w *world) func() {
		return w.bewitch(`PERFORM pg_terminate_backend(pg_backend_pid())`)
	},
	"exceeds a limit": func(w *world) func() {
		return w.bewitch(`RAISE EXCEPTION 'too much' USING ERRCODE = 'configuration_limit_exceeded'`)
	},
}

// bewitch makes every change of the first row do something.
func (w *world) bewitch(statement string) (cure func()) {
	w.exec(`CREATE FUNCTION public.bad() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ` + statement + `; RETURN NEW; END $$`)
	w.exec(`CREATE TRIGGER bad BEFORE UPDATE ON public.items FOR EACH ROW WHEN (NEW.id = 1) EXECUTE FUNCTION public.bad()`)
	return func() { w.exec(`DROP TRIGGER bad ON public.items`) }
}

// patient is a configuration under which what always fails never comes to the end of its attempts.
func (w *world) patient() runner.Config {
	config := w.impatient()
	config.RetryBase = 200 * time.Millisecond
	w.exec(`UPDATE bbm.batched_background_migrations SET max_attempts = 1000000, awaited_transactions = '{}'`)
	return config
}

func TestAPoisonedJobKeepsNoOtherJobOfItsMigrationWaiting(t *testing.T) {
	for name, poison := range poisons {
		for _, parallelism := range []int{1, 2} {
			t.Run(fmt.Sprintf("it %s, parallelism %d", name, parallelism), func(t *testing.T) {
				w := setup(t, 30)
				w.exec(`UPDATE bbm.fleet_settings SET slots = $1`, parallelism)
				w.enqueue("count", "public.items", 5, 5)
				w.exec(`UPDATE bbm.batched_background_migrations SET parallelism = $1`, parallelism)
				config := w.patient()
				config.Workers = parallelism
				cure := poison(w)
				stop := w.start(w.runner(config, parse(t, "count", increment)))
				require.Eventually(t, func() bool {
					w.lapse()
					return one[int](w, `SELECT succeeded_jobs::int FROM bbm.batched_background_migrations`) == 5
				}, 30*time.Second, 5*time.Millisecond)
				require.Zero(t, one[int](w, `SELECT n FROM public.items WHERE id = 1`))
				require.NoError(t, stop())
				cure()
				require.NoError(t, w.control().Resume(w.ctx, "count", "", false))
				require.NoError(t, w.runUntilIdle(parse(t, "count", increment)))
				w.eachOnce("count")
			})
		}
	}
}

// lapse lets the minute pass for which a migration is held that lacks resources.
func (w *world) lapse() {
	w.t.Helper()
	w.exec(`UPDATE bbm.batched_background_migrations SET on_hold_until = now() WHERE on_hold_until > now() + interval '30 s'`)
}

func TestAPoisonedMigrationKeepsNoOtherTableWaiting(t *testing.T) {
	for name, poison := range poisons {
		t.Run("it "+name, func(t *testing.T) {
			w := setup(t, 1)
			w.exec(`CREATE TABLE public.others (id bigint PRIMARY KEY, n integer NOT NULL DEFAULT 0); INSERT INTO public.others SELECT g FROM generate_series(1, 8) AS g`)
			w.enqueue("count", "public.items", 5, 5)
			w.enqueue("others", "public.others", 1, 1)
			config := w.patient()
			config.RetryBase = time.Millisecond // it is always due
			cure := poison(w)
			others := parse(t, "others", strings.NewReplacer("items AS i", "others AS o", "@batch(i)", "@batch(o)", "items", "others").Replace(increment))
			count := parse(t, "count", increment)
			stop := w.start(w.runner(config, count, others))
			require.Eventually(t, func() bool { w.lapse(); return w.status("others") == "finished" }, 30*time.Second, 5*time.Millisecond)
			require.NoError(t, stop())
			require.Zero(t, one[int](w, `SELECT count(*) FROM public.others WHERE n <> 1`))
			dbtest.CheckHistory(t, w.conn, "others")
			cure()
			if w.status("count") == "finished" {
				t.Fatal("it was not poisoned")
			}
			require.NoError(t, w.control().Resume(w.ctx, "count", "", false))
			require.NoError(t, w.runUntilIdle(count, others))
			w.eachOnce("count")
		})
	}
}

func TestAMigrationThatFailsLeavesItsTableToTheNext(t *testing.T) {
	w := setup(t, 20)
	w.exec(`ALTER TABLE public.items ADD CONSTRAINT bad CHECK (id <> 11 OR n <> 1)`)
	w.exec(`SELECT bbm.enqueue('count', 'public.items', 'first', batch_size => 5)`)
	w.exec(`UPDATE bbm.batched_background_migrations SET max_attempts = 2`)
	w.exec(`SELECT bbm.enqueue('double', 'public.items', 'second', batch_size => 5)`)
	double := parse(t, "double", strings.Replace(increment, "n + 1", "n + 2", 1))
	var failed *runner.MigrationsFailedError
	require.ErrorAs(t, w.runUntilIdle(parse(t, "count", increment), double), &failed)
	require.Equal(t, []string{"first"}, failed.Names)
	require.Equal(t, "finished", w.status("second"))
	require.Zero(t, one[int](w, `SELECT count(*) FROM public.items WHERE n NOT IN (2, 3)`))
	require.True(t, one[bool](w, `SELECT max(f.updated_at) <= min(s.started_at)
		FROM bbm.batched_background_migrations AS f, bbm.batched_background_migrations AS s WHERE f.name = 'first' AND s.name = 'second'`), "one after the other")
	dbtest.CheckHistory(t, w.conn, "first")
	dbtest.CheckHistory(t, w.conn, "second")
}
