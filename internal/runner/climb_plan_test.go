package runner_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// orphans deletes the rows that nothing in a large table refers to: an index is asked for each row
// of a small sub-batch, and the table read whole for a large one.
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
	w.exec(`CREATE TABLE public.sub_batches (name text)`)
	w.exec(`CREATE FUNCTION public.count_one() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.sub_batches VALUES (TG_TABLE_NAME); RETURN NULL; END'`)
	run := func(name string, size int) (share float64) {
		table := "public." + name
		w.exec(`CREATE TABLE ` + table + ` (id bigint PRIMARY KEY, code bigint NOT NULL)`)
		w.exec(`INSERT INTO ` + table + ` SELECT i, i::bigint * 104729 % 1200007 FROM generate_series(1, 600000) AS i`)
		w.exec(`CREATE TRIGGER one AFTER DELETE ON ` + table + ` EXECUTE FUNCTION public.count_one()`)
		w.exec(`VACUUM ANALYZE`)
		before := w.scansOf("public.refers")
		w.exec(`SELECT bbm.enqueue($1, $2::text::regclass, batch_size => 50000, sub_batch_size => nullif($3::int, 0))`, name, table, size)
		require.NoError(t, w.runUntilIdle(parse(t, name, strings.ReplaceAll(orphans, "public.orphans", table))))
		require.Equal(t, "finished", w.status(name))
		took := one[time.Duration](w, `SELECT finished_at - started_at FROM bbm.batched_background_migrations WHERE name = $1`, name)
		scans, subBatches := w.scansOf("public.refers")-before, one[int64](w, `SELECT count(*) FROM public.sub_batches WHERE name = $1`, name)
		t.Logf("%s: %s, %d full scans in %d sub-batches", name, took, scans, subBatches)
		return float64(scans) / float64(subBatches)
	}
	require.Less(t, run("fixed", 1000), 0.01, "a small sub-batch asks the index")
	// Times say nothing on a machine that others use.
	assert.Less(t, run("auto", 0), 0.2, "the large table is read whole when that is tried, and not for each sub-batch")
}

// scansOf is how often a table was read whole.
func (w *world) scansOf(table string) (scans int64) {
	w.t.Helper()
	w.exec(`SELECT pg_stat_clear_snapshot()`)
	return one[int64](w, `SELECT pg_stat_get_numscans($1::text::regclass)`, table)
}
