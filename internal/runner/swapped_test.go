package runner_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/control"
	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

// swap holds the table until somebody waits for it, and then puts an empty one in its place:
// whoever has looked the name up before the wait finds another table behind it.
func (w *world) swap(start func()) {
	w.t.Helper()
	swapper := dbtest.Connect(w.t, w.url)
	exec := func(sql string) {
		w.t.Helper()
		_, err := swapper.Exec(w.ctx, sql)
		require.NoError(w.t, err)
	}
	exec(`BEGIN`)
	exec(`LOCK TABLE public.items IN ACCESS EXCLUSIVE MODE`)
	start()
	w.eventually(`SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'public.items'::regclass AND NOT granted)`)
	exec(`ALTER TABLE public.items RENAME TO items_before`)
	exec(`CREATE TABLE public.items (LIKE public.items_before INCLUDING ALL)`)
	exec(`COMMIT`)
}

// invalidTable proves that the migration has failed since its table is another one.
func (w *world) invalidTable(name string) {
	w.t.Helper()
	w.eventually(`SELECT status IN ('finished', 'failed') FROM bbm.batched_background_migrations`)
	require.Equal(w.t, "failed", w.status(name))
	assert.Equal(w.t, "invalid_table", one[string](w, `SELECT failure_error_code::text FROM bbm.batched_background_migrations`))
	assert.Contains(w.t, one[string](w, `SELECT failure_message FROM bbm.batched_background_migrations`), "made again")
}

func TestATableThatIsSwappedWhileItsBoundIsSoughtIsNotTakenForEmpty(t *testing.T) {
	for name, src := range map[string]string{
		"without a proof": increment,
		"with one":        strings.Replace(increment, "-- cursor: id", "-- cursor: id\n-- remaining: n = 0", 1),
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t, 1000)
			one := parse(t, "count", src)
			_, err := w.as(one).Enqueue(w.ctx, control.EnqueueOptions{Work: "count"})
			require.NoError(t, err)
			w.swap(func() { w.start(w.runner(w.config(), one)) })
			w.invalidTable("count")
		})
	}
}

func TestATableThatIsSwappedWhileTheWorkIsCheckedIsNotTakenForEmpty(t *testing.T) {
	w := setup(t, 1000)
	w.enqueue("count", "public.items", 100, 100)
	w.swap(func() { w.start(w.runner(w.config(), parse(t, "count", increment))) })
	w.invalidTable("count")
}

func TestNoJobIsCutByTheKeysOfATableThatWasPutInThePlaceOfTheTarget(t *testing.T) {
	w := setup(t, 1000)
	w.enqueue("count", "public.items", 100, 100)
	w.exec(`UPDATE bbm.batched_background_migrations SET job_interval = '1 hour'`)
	config := w.config()
	config.UntilIdle = false
	stop := w.start(w.runner(config, parse(t, "count", increment)))
	w.eventually(`SELECT succeeded_jobs = 1 FROM bbm.batched_background_migrations`)
	w.exec(`UPDATE bbm.batched_background_migrations SET last_claimed_at = NULL`)
	w.eventually(`SELECT succeeded_jobs = 2 FROM bbm.batched_background_migrations`)
	// The runner knows the table, and has prepared what it asks for the end of a job behind
	// another.
	w.swap(func() { w.exec(`UPDATE bbm.batched_background_migrations SET job_interval = '0'`) })
	w.invalidTable("count")
	require.NoError(t, stop())
	assert.Equal(t, 2, one[int](w, `SELECT count(*) FROM bbm.batched_background_migration_jobs`))
}

func TestAWalkOverATableThatWasPutInThePlaceOfTheTargetProvesNothing(t *testing.T) {
	w := withOldForm(t, 1000)
	w.enqueue("convert", "public.items", 1000, 1000)
	w.exec(`UPDATE bbm.batched_background_migrations SET awaited_transactions = '{}'`) // the bound waits for none that begins now
	older, err := dbtest.Connect(t, w.url).Begin(w.ctx)
	require.NoError(t, err)
	config := w.config()
	config.UntilIdle = false
	stop := w.start(w.runner(config, parse(t, "convert", convert)))
	w.eventually(`SELECT awaited_transactions <> '{}' FROM bbm.batched_background_migration_verifications`)
	w.swap(func() { require.NoError(t, older.Rollback(w.ctx)) })
	w.invalidTable("convert")
	require.NoError(t, stop())
}
