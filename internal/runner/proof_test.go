package runner_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/control"
	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// provedButFor is a migration "convert" of a hundred rows that is finished and proved, but for
// some rows that a constraint refuses.
func provedButFor(t *testing.T, refused string) *world {
	t.Helper()
	w := withOldForm(t, 100)
	w.exec(`ALTER TABLE public.items ADD CONSTRAINT refused CHECK (new_form IS NULL OR id NOT IN (` + refused + `))`)
	w.enqueue("convert", "public.items", 100, 10)
	w.exec(`UPDATE bbm.batched_background_migrations SET on_row_error = 'quarantine'`)
	require.NoError(t, w.runUntilIdle(parse(t, "convert", convert)))
	require.Equal(t, "finished", w.status("convert"))
	return w
}

// walks is how many there were, and how many rows they have looked at.
func (w *world) walks() (walks, rows int) {
	w.t.Helper()
	require.NoError(w.t, w.conn.QueryRow(w.ctx,
		`SELECT count(*), sum(walked_rows) FROM bbm.batched_background_migration_verifications`).Scan(&walks, &rows))
	return walks, rows
}

// lastReason is that of the last change of a migration's status.
func (w *world) lastReason() string {
	w.t.Helper()
	return one[string](w, `SELECT coalesce(reason, '') FROM bbm.batched_background_migration_transition_logs ORDER BY id DESC LIMIT 1`)
}

func TestAProofSaysHowManyRowsItLeavesOut(t *testing.T) {
	w := provedButFor(t, "7, 50, 51, 100")
	assert.Equal(t, "of 100 rows none remains but 4 in quarantine", w.lastReason())
	assert.True(t, w.logged("migration finished: no row remains but those in quarantine"))
	assert.True(t, w.logged("quarantined_rows=4"))
	dbtest.CheckHistory(t, w.conn, "convert")
}

func TestAMigrationThatAsksForNoProofSaysWhatItLeftOut(t *testing.T) {
	w := setupBad(t, 100, 50, 7, 50)
	require.NoError(t, w.runUntilIdle(parse(t, "count", increment)))
	assert.Equal(t, "left out, in quarantine: 2", w.lastReason())
	assert.True(t, w.logged("migration finished: rows are left out"))

	w.exec(`ALTER TABLE public.items DROP CONSTRAINT sound`)
	w.retryQuarantined("count", 2)
	require.NoError(t, w.runUntilIdle(parse(t, "count", increment)))
	assert.Empty(t, w.lastReason())
	w.eachOnce("count")
}

func TestRowsTriedAgainAreProvedByThemselvesAndTheProofStandsForTheRest(t *testing.T) {
	w := provedButFor(t, "7, 50, 51")
	provedAt := one[time.Time](w, `SELECT verified_at FROM bbm.batched_background_migrations`)
	w.exec(`ALTER TABLE public.items DROP CONSTRAINT refused`)
	w.exec(`ALTER TABLE public.items ADD CONSTRAINT refused CHECK (new_form IS NULL OR id <> 51)`)
	w.retryQuarantined("convert", 3)
	require.Equal(t, "active", w.status("convert"))
	require.NoError(t, w.runUntilIdle(parse(t, "convert", convert)))

	require.Equal(t, "finished", w.status("convert"))
	walks, rows := w.walks()
	assert.Equal(t, []int{1, 100}, []int{walks, rows}, "no walk but the first")
	assert.Equal(t, provedAt, one[time.Time](w, `SELECT verified_at FROM bbm.batched_background_migrations`), "of the oldest look")
	assert.Equal(t, []string{"51"}, w.leftOut())
	assert.Regexp(t, `^the proof of 20\S+ \S+ stands, and the rows tried again were looked at one by one; left out, in quarantine: 1$`, w.lastReason())
	w.provedRows("convert")
	dbtest.CheckHistory(t, w.conn, "convert")

	w.exec(`ALTER TABLE public.items DROP CONSTRAINT refused`)
	w.retryQuarantined("convert", 1)
	require.NoError(t, w.runUntilIdle(parse(t, "convert", convert)))
	w.proved()
	walks, rows = w.walks()
	assert.Equal(t, []int{1, 100}, []int{walks, rows}, "no walk but the first")
}

func TestARowThatIsGoneWhenItIsTriedAgainIsLookedForInTheWholeTable(t *testing.T) {
	w := provedButFor(t, "7, 50")
	w.exec(`ALTER TABLE public.items DROP CONSTRAINT refused`)
	w.exec(`UPDATE public.items SET id = -7 WHERE id = 7`)
	w.retryQuarantined("convert", 2)
	require.NoError(t, w.runUntilIdle(parse(t, "convert", convert)))
	w.proved()
	assert.Empty(t, w.leftOut())
}

func TestARowThatWasTriedAgainIsWalkedOverBeforeThatIsRecorded(t *testing.T) {
	w := provedButFor(t, "7")
	w.retryQuarantined("convert", 1)
	c := w.control()
	var err error
	c.Works, err = work.NewRegistry(parse(t, "convert", convert))
	require.NoError(t, err)
	look := func() []int64 {
		v, err := c.Verify(w.ctx, "convert", nil)
		require.NoError(t, err)
		return []int64{v.RemainingRows, v.LeftOutRemaining}
	}
	require.Equal(t, []int64{0, 1}, look())
	// It was done; then an old version of the application wrote it again.
	w.exec(`UPDATE bbm.batched_background_migration_jobs SET progress_key = until_key WHERE is_single_row`)
	require.Equal(t, []int64{1, 0}, look())
}

func TestAVersionThatIsAdoptedIsProvedByAWholeWalk(t *testing.T) {
	const inTwo = "UPDATE public.items AS i SET new_form = 2 * i.old_form, n = n + 1 WHERE @batch(i)"
	before, _, _ := strings.Cut(convert, "UPDATE")
	mended := parse(t, "convert", before+inTwo)
	for name, adopt := range map[string]func(w *world, c *control.Control) error{
		"with the rows that are tried again": func(w *world, c *control.Control) error {
			_, err := c.RetryQuarantined(w.ctx, "convert", "", true)
			return err
		},
		"before they are": func(w *world, c *control.Control) error {
			w.retryQuarantined("convert", 2)
			w.transit("convert", "active", "paused")
			return c.Resume(w.ctx, "convert", "", true)
		},
		"after they have failed": func(w *world, c *control.Control) error {
			w.retryQuarantined("convert", 2)
			w.exec(`ALTER TABLE public.items RENAME n TO m`)
			require.Error(w.t, w.runUntilIdle(parse(w.t, "convert", convert)))
			w.exec(`ALTER TABLE public.items RENAME m TO n`)
			return c.Retry(w.ctx, "convert", "", true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := provedButFor(t, "7, 50")
			w.exec(`ALTER TABLE public.items DROP CONSTRAINT refused`)
			c := w.control()
			var err error
			c.Works, err = work.NewRegistry(mended)
			require.NoError(t, err)
			require.NoError(t, adopt(w, c))
			require.NoError(t, w.runUntilIdle(mended))
			w.proved()
			walks, rows := w.walks()
			assert.Equal(t, []int{2, 200}, []int{walks, rows})
		})
	}
}

func TestARowThatIsTriedAgainAndNotChangedStaysInQuarantine(t *testing.T) {
	w := withOldForm(t, 100)
	w.exec(`ALTER TABLE public.items ADD CONSTRAINT refused CHECK (new_form IS NULL OR id <> 3)`)
	w.enqueue("convert", "public.items", 100, 10)
	w.exec(`UPDATE bbm.batched_background_migrations SET on_row_error = 'quarantine'`)
	works := parse(t, "convert", strings.Replace(convert, "WHERE @batch(i)", "WHERE @batch(i) AND (i.id <> 3 OR i.old_form = 3)", 1))
	require.NoError(t, w.runUntilIdle(works))
	require.Equal(t, []string{"3"}, w.leftOut())
	w.exec(`UPDATE public.items SET old_form = 4 WHERE id = 3`) // the work does not mean it any more, but it remains
	w.retryQuarantined("convert", 1)
	require.NoError(t, w.runUntilIdle(works))

	assert.Equal(t, "finished", w.status("convert"))
	assert.Equal(t, []string{"3"}, w.leftOut())
	assert.Equal(t, "RowRemains: the work ran for the row, and has left it as one that remains: new_form IS NULL",
		one[string](w, `SELECT exception_class || ': ' || exception_message FROM bbm.batched_background_migration_quarantined_rows`))
	dbtest.CheckHistory(t, w.conn, "convert")
}

func TestARowThatIsTriedAgainBehindAWalkIsNotMissedByItsProof(t *testing.T) {
	w := withOldForm(t, 100)
	unblock := w.block()
	w.exec(`ALTER TABLE public.items ADD CONSTRAINT refused CHECK (new_form IS NULL OR id <> 3)`)
	w.exec(`UPDATE bbm.fleet_settings SET slots = 2`)
	w.enqueue("convert", "public.items", 10, 10)
	w.exec(`UPDATE bbm.batched_background_migrations SET on_row_error = 'quarantine', parallelism = 2`)
	// It leaves row 3 alone when the constraint is gone; and the walk waits at row 50.
	config := w.daemon()
	config.Workers, config.LockTimeout = 2, time.Minute
	stop := w.start(w.runner(config, parse(t, "convert", strings.Replace(blockingProof, "WHERE @batch(i)",
		"WHERE @batch(i) AND (i.id <> 3 OR i.old_form = 3)", 1))))
	w.blocked()
	w.exec(`UPDATE public.items SET old_form = 4 WHERE id = 3`)
	w.retryQuarantined("convert", 1)
	w.eventually(`SELECT EXISTS (SELECT FROM bbm.batched_background_migration_jobs WHERE is_single_row AND status = 'succeeded')`)
	unblock()
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	remaining := one[int](w, `SELECT count(*) FROM public.items WHERE new_form IS NULL`)
	assert.Len(t, w.leftOut(), remaining, "what remains is in quarantine")
	assert.Equal(t, fmt.Sprintf("of 100 rows none remains but %d in quarantine", remaining), w.lastReason())
	dbtest.CheckHistory(t, w.conn, "convert")
}
