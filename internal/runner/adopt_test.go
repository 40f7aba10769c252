package runner_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/control"
	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// as is somebody who has these works.
func (w *world) as(works ...*work.Work) *control.Control {
	w.t.Helper()
	registry, err := work.NewRegistry(works...)
	require.NoError(w.t, err)
	return &control.Control{Conn: dbtest.Connect(w.t, w.url), Works: registry, ChangedBy: "test"}
}

// begin enqueues a work and pauses it when its first job is done.
func (w *world) begin(one *work.Work) {
	w.t.Helper()
	batch := 100
	_, err := w.as(one).Enqueue(w.ctx, control.EnqueueOptions{Work: one.Name, BatchSize: &batch, SubBatchSize: &batch})
	require.NoError(w.t, err)
	w.exec(`UPDATE bbm.batched_background_migrations SET job_interval = '1 hour'`)
	config := w.config()
	config.UntilIdle = false
	stop := w.start(w.runner(config, one))
	w.eventually(`SELECT succeeded_jobs = 1 FROM bbm.batched_background_migrations`)
	require.NoError(w.t, w.as().Pause(w.ctx, one.Name, ""))
	require.NoError(w.t, stop())
	w.exec(`UPDATE bbm.batched_background_migrations SET job_interval = '0'`)
}

// withDrafts has a migration that is bounded for the pending half of 1,000 items, those of the
// small keys, and has done the first hundred.
func withDrafts(t *testing.T) *world {
	t.Helper()
	w := setup(t, 0)
	w.exec(`ALTER TABLE public.items ADD pending boolean NOT NULL DEFAULT false`)
	w.exec(`INSERT INTO public.items (id, pending) SELECT g, g <= 500 FROM generate_series(1, 1000) AS g`)
	w.exec(`CREATE INDEX items_pending ON public.items (id) WHERE pending`)
	w.begin(parse(t, "take", takePending))
	return w
}

// takeUnchanged is the same work, mended: for all items that are not changed yet.
var takeUnchanged = strings.NewReplacer("-- scope: pending\n", "", "AND i.pending", "AND i.n = 0").Replace(takePending)

func TestAVersionForRowsThatTheBoundWasNotFixedForIsNotAdopted(t *testing.T) {
	w := withDrafts(t)
	mended := w.as(parse(t, "take", takeUnchanged))
	refused := func(err error) {
		t.Helper()
		var input *control.InputError
		require.ErrorAs(t, err, &input)
		assert.Equal(t, `the present version of work "take" walks over all rows, but migration "take" was bounded for the scope pending (timezone UTC), so rows would be left out; `+
			`start again: bbm-runner cancel take, then bbm-runner enqueue take --name take-2 (rows that are done stay done: the statement must leave them alone); `+
			`or add -- remaining: PREDICATE to the work, which looks through the whole table for what is left`, input.Msg)
	}
	refused(mended.Resume(w.ctx, "take", "", true))
	w.exec(`UPDATE bbm.batched_background_migrations SET status = 'failed', failure_error_code = 'max_attempts'`)
	refused(mended.Retry(w.ctx, "take", "", true))
	w.exec(`UPDATE bbm.batched_background_migrations SET status = 'finished', finished_at = now(), quarantined_rows = 1`)
	_, err := mended.RetryQuarantined(w.ctx, "take", "", true)
	refused(err)
	w.exec(`UPDATE bbm.batched_background_migrations SET status = 'paused', finished_at = NULL, quarantined_rows = 0, failure_error_code = NULL`)

	// What the message says is done.
	require.NoError(t, mended.Cancel(w.ctx, "take", ""))
	_, err = mended.Enqueue(w.ctx, control.EnqueueOptions{Work: "take", Name: "take-2"})
	require.NoError(t, err)
	require.NoError(t, w.runUntilIdle(parse(t, "take", takeUnchanged)))
	w.eachOnce("take-2")
}

func TestAVersionForOtherRowsIsAdoptedWhereItProvesThatNoneRemains(t *testing.T) {
	w := withDrafts(t)
	proving := parse(t, "take", strings.Replace(takeUnchanged, "-- cursor: id", "-- cursor: id\n-- remaining: n = 0", 1))
	require.NoError(t, w.as(proving).Resume(w.ctx, "take", "", true))

	// The bound is still that of the first version.
	var input *control.InputError
	require.NoError(t, w.as().Pause(w.ctx, "take", ""))
	require.ErrorAs(t, w.as(parse(t, "take", takeUnchanged)).Resume(w.ctx, "take", "", true), &input)
	assert.Contains(t, input.Msg, "bounded for the scope pending")
	require.NoError(t, w.as().Resume(w.ctx, "take", "", false))

	require.NoError(t, w.runUntilIdle(proving))
	w.eachOnce("take")
	w.provedRows("take")
}

func TestAScopeIsReadByTheSettingsThatTheBoundWasFixedWith(t *testing.T) {
	w := withDrafts(t)
	elsewhere := parse(t, "take", strings.Replace(takePending, "-- cursor: id", "-- cursor: id\n-- timezone: Europe/Berlin", 1))
	var input *control.InputError
	require.ErrorAs(t, w.as(elsewhere).Resume(w.ctx, "take", "", true), &input)
	assert.Contains(t, input.Msg, "walks over the scope pending (timezone Europe/Berlin), but migration \"take\" was bounded for the scope pending (timezone UTC)")

	same := parse(t, "take", strings.NewReplacer("-- scope: pending", "-- scope:   pending  ", "n + 1", "1 + n").Replace(takePending))
	require.NoError(t, w.as(same).Resume(w.ctx, "take", "", true))
	require.NoError(t, w.runUntilIdle(same))
	w.tookPending(500)
	w.changedOnce("id <= 500")
}

func TestABoundOfAllRowsIsOneForAScopeAndForRepeatedKeys(t *testing.T) {
	w := setup(t, 1000)
	w.exec(`ALTER TABLE public.items ADD pending boolean NOT NULL DEFAULT true`)
	w.exec(`CREATE INDEX items_pending ON public.items (id) WHERE pending`)
	all := strings.Replace(takePending, "-- scope: pending\n", "", 1)
	w.begin(parse(t, "take", all))
	for _, next := range []string{strings.Replace(all, "-- cursor: id", "-- cursor: id\n-- repeated_keys: yes", 1), takePending} {
		require.NoError(t, w.as(parse(t, "take", next)).Resume(w.ctx, "take", "", true))
		require.NoError(t, w.as().Pause(w.ctx, "take", ""))
	}
	require.NoError(t, w.as(parse(t, "take", takePending)).Resume(w.ctx, "take", "", true))
	require.NoError(t, w.runUntilIdle(parse(t, "take", takePending)))
	w.eachOnce("take")
}

func TestWhereNobodyNotedTheRowsOfABoundNothingIsAdoptedUntilTheyAreKnown(t *testing.T) {
	for known, note := range map[string]func(w *world){
		"by the enqueue of the pinned version": func(w *world) {
			_, err := w.as(parse(w.t, "take", takePending)).Enqueue(w.ctx, control.EnqueueOptions{Work: "take"})
			require.NoError(w.t, err)
		},
		"by a runner that has the pinned version": func(w *world) {
			require.NoError(w.t, w.as().Resume(w.ctx, "take", "", false))
			w.exec(`UPDATE bbm.batched_background_migrations SET job_interval = '1 hour', last_claimed_at = now() - interval '1 hour'`)
			config := w.config()
			config.UntilIdle = false
			stop := w.start(w.runner(config, parse(w.t, "take", takePending)))
			w.eventually(`SELECT succeeded_jobs = 2 FROM bbm.batched_background_migrations`)
			require.NoError(w.t, w.as().Pause(w.ctx, "take", ""))
			require.NoError(w.t, stop())
			w.exec(`UPDATE bbm.batched_background_migrations SET job_interval = '0'`)
		},
	} {
		t.Run(known, func(t *testing.T) {
			w := withDrafts(t)
			w.exec(`UPDATE bbm.batched_background_migrations SET row_set = NULL`) // as an older bbm-runner has left it
			same := parse(t, "take", strings.Replace(takePending, "n + 1", "1 + n", 1))
			var input *control.InputError
			require.ErrorAs(t, w.as(same).Resume(w.ctx, "take", "", true), &input)
			assert.Contains(t, input.Msg, "enqueue it once more in the version that it runs")
			note(w)
			require.NoError(t, w.as(same).Resume(w.ctx, "take", "", true))
			require.NoError(t, w.runUntilIdle(same))
			w.tookPending(500)
			w.changedOnce("id <= 500")
		})
	}
}

func TestBeforeItIsBoundedAMigrationTakesAnyRows(t *testing.T) {
	w := setup(t, 1000)
	w.exec(`ALTER TABLE public.items ADD pending boolean NOT NULL DEFAULT false`)
	w.exec(`CREATE INDEX items_pending ON public.items (id) WHERE pending`)
	_, err := w.as(parse(t, "take", takePending)).Enqueue(w.ctx, control.EnqueueOptions{Work: "take", Paused: true})
	require.NoError(t, err)
	mended := parse(t, "take", takeUnchanged)
	require.NoError(t, w.as(mended).Resume(w.ctx, "take", "", true))
	require.NoError(t, w.runUntilIdle(mended))
	w.eachOnce("take")
}

func TestKeysThatComeToBeInAnotherOrderFailTheMigration(t *testing.T) {
	for becomes, fails := range map[string]bool{"text": true, "numeric": false} {
		t.Run(becomes, func(t *testing.T) {
			w := setup(t, 1000)
			w.begin(parse(t, "count", increment))
			w.exec(`ALTER TABLE public.items ALTER id TYPE ` + becomes)
			require.NoError(t, w.as().Resume(w.ctx, "count", "", false))
			err := w.runUntilIdle(parse(t, "count", increment))
			if !fails {
				require.NoError(t, err)
				w.eachOnce("count")
				return
			}
			require.Equal(t, "failed", w.status("count"))
			assert.Equal(t, "invalid_cursor", one[string](w, `SELECT failure_error_code::text FROM bbm.batched_background_migrations`))
			assert.Contains(t, one[string](w, `SELECT failure_message FROM bbm.batched_background_migrations`), "(text, collation pg_catalog.\"default\", not number)")
		})
	}
}

// withFailedPass has a migration of 200 items whose first pass has failed on a row that has come
// since, in a job over all of them.
func withFailedPass(t *testing.T, batchSize int) *world {
	t.Helper()
	w := withOldForm(t, 200)
	w.exec(`CREATE FUNCTION public.write_late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			INSERT INTO public.items (id, old_form) VALUES (-1, 666), (-200, 7), (1000, 8) ON CONFLICT DO NOTHING;
			RETURN NULL;
		END $$;
		CREATE TRIGGER late AFTER UPDATE ON public.items FOR EACH STATEMENT EXECUTE FUNCTION public.write_late();
		ALTER TABLE public.items ADD CONSTRAINT no_beast CHECK (new_form <> 1332)`)
	w.enqueue("convert", "public.items", batchSize, batchSize)
	w.exec(`UPDATE bbm.batched_background_migrations SET max_attempts = 1`)
	require.Error(t, w.runUntilIdle(parse(t, "convert", convert)))
	require.Equal(t, "failed", w.status("convert"))
	require.Equal(t, 1, one[int](w, `SELECT count(*) FROM bbm.batched_background_migration_jobs WHERE pass = 1 AND status = 'failed'`))
	w.exec(`ALTER TABLE public.items DROP CONSTRAINT no_beast`)
	return w
}

func TestAVersionThatDoesNotSayWhatRemainsIsNotAdoptedInAPass(t *testing.T) {
	w := withFailedPass(t, 1000)
	silent := parse(t, "convert", strings.Replace(convert, "-- remaining: new_form IS NULL\n", "", 1))
	var input *control.InputError
	require.ErrorAs(t, w.as(silent).Retry(w.ctx, "convert", "", true), &input)
	assert.Contains(t, input.Msg, "rows that are done would be changed again; keep -- remaining in it")

	other := parse(t, "convert", strings.Replace(convert, "new_form IS NULL", "n = 0", 1))
	require.NoError(t, w.as(other).Retry(w.ctx, "convert", "", true))
	require.NoError(t, w.runUntilIdle(other))
	w.proved()
	assert.Contains(t, one[string](w, `SELECT verified_statement FROM bbm.batched_background_migrations`), "(n = 0) IS TRUE")
}

func TestAVersionThatDoesNotSayWhatRemainsIsNotAdoptedWhileRowsAreLeftOutThatAPassMayHaveChanged(t *testing.T) {
	w := withFailedPass(t, 1000)
	w.exec(`ALTER TABLE public.items ADD CONSTRAINT no_beast CHECK (new_form <> 1332)`)
	w.exec(`UPDATE bbm.batched_background_migrations SET on_row_error = 'quarantine'`)
	require.NoError(t, w.as().Retry(w.ctx, "convert", "", false))
	require.NoError(t, w.runUntilIdle(parse(t, "convert", convert)))
	require.Equal(t, "finished", w.status("convert"))
	require.Equal(t, 1, one[int](w, `SELECT quarantined_rows FROM bbm.batched_background_migrations`))

	silent := parse(t, "convert", strings.Replace(convert, "-- remaining: new_form IS NULL\n", "", 1))
	var input *control.InputError
	_, err := w.as(silent).RetryQuarantined(w.ctx, "convert", "", true)
	require.ErrorAs(t, err, &input)
	assert.Contains(t, input.Msg, "keep -- remaining in it")
}

func TestBeforeAWalkHasBegunAVersionMayStopSayingWhatRemains(t *testing.T) {
	w := withOldForm(t, 1000)
	w.begin(parse(t, "convert", convert))
	silent := parse(t, "convert", strings.Replace(convert, "-- remaining: new_form IS NULL\n", "", 1))
	require.NoError(t, w.as(silent).Resume(w.ctx, "convert", "", true))
	require.NoError(t, w.runUntilIdle(silent))
	w.eachOnce("convert")
	assert.Zero(t, one[int](w, `SELECT count(*) FROM bbm.batched_background_migrations WHERE verified_at IS NOT NULL`), "nothing is proved")
}

func TestAVersionThatBeginsToSayWhatRemainsIsProved(t *testing.T) {
	w := withOldForm(t, 1000)
	silent := parse(t, "convert", strings.Replace(convert, "-- remaining: new_form IS NULL\n", "", 1))
	w.begin(silent)
	w.exec(`INSERT INTO public.items (id, old_form) VALUES (-1, 5), (2000, 6)`)
	require.NoError(t, w.as(parse(t, "convert", convert)).Resume(w.ctx, "convert", "", true))
	require.NoError(t, w.runUntilIdle(parse(t, "convert", convert)))
	w.proved()
}

func TestAWalkThatAnotherVersionBeginsAgainWaitsForTransactionsThatAreOpenThen(t *testing.T) {
	w := withFailedPass(t, 50)
	require.True(t, one[bool](w, `SELECT statement IS NOT NULL AND finished_at IS NULL FROM bbm.batched_background_migration_verifications`), "the walk is under way")
	w.exec(`UPDATE bbm.batched_background_migration_verifications SET awaited_transactions = '{}'`) // which have all ended
	w.exec(`DROP TRIGGER late ON public.items`)
	w.exec(`DELETE FROM public.items WHERE id = 1000`) // else another walk would follow, which waits by itself
	older := dbtest.Connect(t, w.url)
	tx, err := older.Begin(w.ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(w.ctx)) }()
	_, err = tx.Exec(w.ctx, `INSERT INTO public.items (id, old_form) VALUES (-500, 9)`)
	require.NoError(t, err)

	other := parse(t, "convert", strings.Replace(convert, "new_form IS NULL", "n = 0", 1))
	require.NoError(t, w.as(other).Retry(w.ctx, "convert", "", true))
	config := w.config()
	config.UntilIdle = false
	stop := w.start(w.runner(config, other))
	w.eventually(`SELECT v.awaited_transactions <> '{}' OR m.status = 'finished'
		FROM bbm.batched_background_migration_verifications AS v CROSS JOIN bbm.batched_background_migrations AS m ORDER BY v.pass DESC LIMIT 1`)
	require.Equal(t, "running", w.status("convert"))
	require.NoError(t, tx.Commit(w.ctx))
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	w.proved()
}
