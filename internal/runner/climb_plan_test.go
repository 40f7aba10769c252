package runner_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// orphans deletes the rows that nothing in a large table refers to: an index is asked for each row of a small sub-batch, and the table read whole for a
// large one.
const orphans = `-- description: Delete what nothing refers to.
-- table: public.orphans
-- cursor: id

-- +bbm Work
DELETE FROM public.orphans AS o WHERE @batch(o) AND NOT EXISTS (SELECT FROM public.refers AS r WHERE r.code = o.code)`

func TestASubBatchDoesNotGrowIntoAWorsePlan(t *testing.T) {
	w := setup(t, 1)
	w.exec(`CREATE TABLE public.refers (id bigint PRIMARY KEY, code bigint NOT NULL, pad text)`)
	w.exec(`INSERT INTO public.refers SELECT i, i::bigint * 7919 % 600011 * 2, repeat('x', 200) FROM generate_series(1, 300000) AS i`)
	w.exec(`CREATE INDEX ON public.refers (code)`)
	run := func(name string, size int) (took time.Duration, scans int64) {
		table := "public." + name
		w.exec(`CREATE TABLE ` + table + ` (id bigint PRIMARY KEY, code bigint NOT NULL)`)
		w.exec(`INSERT INTO ` + table + ` SELECT i, i::bigint * 104729 % 1200007 FROM generate_series(1, 600000) AS i`)
		w.exec(`VACUUM ANALYZE`)
		before := w.scansOf("public.refers")
		w.exec(`SELECT bbm.enqueue($1, $2::text::regclass, batch_size => 50000, sub_batch_size => nullif($3::int, 0))`, name, table, size)
		require.NoError(t, w.runUntilIdle(parse(t, name, strings.ReplaceAll(orphans, "public.orphans", table))))
		require.Equal(t, "finished", w.status(name))
		took = one[time.Duration](w, `SELECT finished_at - started_at FROM bbm.batched_background_migrations WHERE name = $1`, name)
		return took, w.scansOf("public.refers") - before
	}
	var fixed, auto time.Duration
	var scans int64
	isWell := func() bool { return scans <= 10 && auto.Seconds() < 1.5*fixed.Seconds() }
	for _, attempt := range []string{"1", "2", "3"} { // others may use the machine meanwhile
		fixed, scans = run("fixed_"+attempt, 1000)
		require.LessOrEqual(t, scans, int64(3), "a small sub-batch asks the index; only making indexes has read all")
		auto, scans = run("auto_"+attempt, 0)
		t.Logf("fixed at 1,000: %s; automatic: %s, with %d full scans", fixed, auto, scans)
		if isWell() {
			return
		}
	}
	assert.True(t, isWell(), "the large table is read whole when that is tried, and not for each sub-batch")
}

// scansOf is how often a table was read whole.
func (w *world) scansOf(table string) (scans int64) {
	w.t.Helper()
	w.exec(`SELECT pg_stat_clear_snapshot()`)
	return one[int64](w, `SELECT pg_stat_get_numscans($1::text::regclass)`, table)
}
