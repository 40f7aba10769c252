package runner_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/control"
	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

// noneRemains proves that what "finished" says of all rows is so.
func (w *world) noneRemains() {
	w.t.Helper()
	require.Zero(w.t, one[int](w, `SELECT count(*) FROM public.items WHERE new_form IS NULL`))
	require.Empty(w.t, w.leftOut())
}

func TestARowWhoseKeyMovesWhileItIsTriedAgainIsLookedForInTheWholeTable(t *testing.T) {
	w := provedButFor(t, "7")
	w.exec(`ALTER TABLE public.items DROP CONSTRAINT refused`)
	tx, err := dbtest.Connect(t, w.url).Begin(w.ctx)
	require.NoError(t, err)
	_, err = tx.Exec(w.ctx, `UPDATE public.items SET id = -7 WHERE id = 7`)
	require.NoError(t, err)
	w.retryQuarantined("convert", 1)
	config := w.daemon()
	config.LockTimeout = time.Minute
	stop := w.start(w.runner(config, parse(t, "convert", convert)))
	w.eventually(`SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted)`)
	require.NoError(t, tx.Commit(w.ctx))
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	w.noneRemains()
}

func TestARowWhoseKeyAnotherHasByNowIsLookedForInTheWholeTable(t *testing.T) {
	w := provedButFor(t, "7")
	w.exec(`ALTER TABLE public.items DROP CONSTRAINT refused`)
	w.exec(`UPDATE public.items SET id = -7 WHERE id = 7`)
	w.exec(`INSERT INTO public.items (id, old_form, new_form) VALUES (7, 1, 2)`)
	w.retryQuarantined("convert", 1)
	require.NoError(t, w.runUntilIdle(parse(t, "convert", convert)))
	require.Equal(t, "finished", w.status("convert"))
	w.noneRemains()
}

func TestARowWhoseKeyHasMovedBehindAWalkMakesItBeginAgain(t *testing.T) {
	w := withOldForm(t, 100)
	unblock := w.block()
	w.exec(`ALTER TABLE public.items ADD CONSTRAINT refused CHECK (new_form IS NULL OR id <> 3)`)
	w.exec(`UPDATE bbm.fleet_settings SET slots = 2`)
	w.enqueue("convert", "public.items", 10, 10)
	w.exec(`UPDATE bbm.batched_background_migrations SET on_row_error = 'quarantine', parallelism = 2`)
	config := w.daemon()
	config.Workers, config.LockTimeout = 2, time.Minute
	stop := w.start(w.runner(config, parse(t, "convert", blockingProof)))
	w.blocked() // the walk, at row 50
	w.exec(`ALTER TABLE public.items DROP CONSTRAINT refused`)
	w.exec(`UPDATE public.items SET id = -3 WHERE id = 3`)
	w.retryQuarantined("convert", 1)
	w.eventually(`SELECT EXISTS (SELECT FROM bbm.batched_background_migration_jobs WHERE is_single_row AND progress_key = until_key)`)
	unblock()
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	w.noneRemains()
}

func TestAVersionThatLeftRowsOutIsNotMadeGoodByTheOneBefore(t *testing.T) {
	w := setup(t, 1000)
	w.exec(`ALTER TABLE public.items ADD pending boolean NOT NULL DEFAULT false`)
	w.exec(`UPDATE public.items SET pending = true WHERE id % 2 = 0`)
	w.exec(`CREATE INDEX items_pending ON public.items (id) WHERE pending`)
	all, narrow := parse(t, "take", strings.Replace(takePending, "-- scope: pending\n", "", 1)), parse(t, "take", takePending)
	w.begin(all)
	require.NoError(t, w.as(narrow).Resume(w.ctx, "take", "", true))
	require.NoError(t, w.as().Pause(w.ctx, "take", ""))
	var input *control.InputError
	require.ErrorAs(t, w.as(all).Resume(w.ctx, "take", "", true), &input)
	assert.Contains(t, input.Msg, "walks over all rows, but migration \"take\" was bounded for the scope pending")
	require.NoError(t, w.as(narrow).Resume(w.ctx, "take", "", false))
}
