package runner_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/runner"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// takePending counts the pending rows of public.items, which then leave the scope.
const takePending = `-- description: Count the pending.
-- table: public.items
-- cursor: id
-- scope: pending

-- +bbm Work
UPDATE public.items AS i SET n = n + 1, pending = false WHERE @batch(i) AND i.pending`

// withPending has that many items, every thousandth of which is pending.
func withPending(t *testing.T, rows int) *world {
	t.Helper()
	w := setup(t, 0)
	w.exec(`ALTER TABLE public.items ADD pending boolean NOT NULL DEFAULT false`)
	w.exec(`INSERT INTO public.items (id, pending) SELECT g, g % 1000 = 500 FROM generate_series(1, $1::int) AS g`, rows)
	w.exec(`CREATE INDEX items_pending ON public.items (id) WHERE pending`)
	w.exec(`VACUUM ANALYZE public.items`)
	return w
}

// tookPending proves that the migration has finished after it walked over that many rows, and that its history is whole.
func (w *world) tookPending(processed int) {
	w.t.Helper()
	require.Equal(w.t, "finished", w.status("take"))
	assert.Equal(w.t, processed, one[int](w, `SELECT processed_rows FROM bbm.batched_background_migrations WHERE name = 'take'`))
	dbtest.CheckHistory(w.t, w.conn, "take")
}

// changedOnce proves that each item of the condition was changed once, and no other.
func (w *world) changedOnce(condition string) {
	w.t.Helper()
	require.Zero(w.t, one[int](w, `SELECT count(*) FROM public.items WHERE n <> (`+condition+`)::int`))
}

func TestASparseWorkWalksOverTheRowsOfItsScopeAlone(t *testing.T) {
	w := withPending(t, 1_000_000)
	w.enqueue("take", "public.items", 100, 20)
	registry, err := work.NewRegistry(parse(t, "take", takePending))
	require.NoError(t, err)
	connConfig, err := pgx.ParseConfig(w.url)
	require.NoError(t, err)
	var boundaries boundaryCounter
	connConfig.Tracer = &boundaries
	r, err := runner.New(connConfig, registry, w.config())
	require.NoError(t, err)
	require.NoError(t, r.Run(t.Context()))

	w.tookPending(1000)
	w.changedOnce("id % 1000 = 500")
	assert.Equal(t, 10, one[int](w, `SELECT count(*) FROM bbm.batched_background_migration_jobs`), "1,000 rows in jobs of 100")
	// 10 jobs, of 5 sub-batches each; the check of the definition looks at a few.
	assert.LessOrEqual(t, boundaries.count.Load(), int32(10+10*5+5))
	assert.InDelta(t, 1000, one[int](w, `SELECT total_tuple_count FROM bbm.batched_background_migrations`), 500, "progress is measured by the scope")
}

// boundaryCounter counts the boundary queries that go to the server.
type boundaryCounter struct{ count atomic.Int32 }

func (c *boundaryCounter) note(sql string) {
	if strings.HasPrefix(sql, "WITH edge") {
		c.count.Add(1)
	}
}

func (c *boundaryCounter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	c.note(data.SQL)
	return ctx
}

func (c *boundaryCounter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c *boundaryCounter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

func (c *boundaryCounter) TraceBatchQuery(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	c.note(data.SQL)
}

func (c *boundaryCounter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

func TestRowsMayLeaveAndEnterAScopeWhileItIsWalkedOver(t *testing.T) {
	w := withPending(t, 100_000)
	w.enqueue("take", "public.items", 20, 5)
	other := dbtest.Connect(t, w.url)
	var calls atomic.Int32
	take := &work.Work{
		Name: "take", Version: "1", Table: "public.items", Cursor: []string{"id"}, Scope: "pending",
		Do: func(ctx context.Context, tx pgx.Tx, b work.Batch) (int64, error) {
			affected, err := b.Exec(ctx, tx, `UPDATE public.items AS i SET n = n + 1, pending = false WHERE @batch(i) AND i.pending`)
			if calls.Add(1) != 6 || err != nil {
				return affected, err
			}
			// Rows of this job, of jobs to come and the last of all leave the scope; others enter it, ahead of the range and behind it.
			_, err = other.Exec(ctx, `UPDATE public.items SET pending = (id % 1000 <> 500)
				WHERE id IN (33500, 34500, 60500, 99500) OR id IN (7, 33007, 70007, 99400, 99999)`)
			return affected, err
		},
	}
	require.NoError(t, w.runUntilIdle(take))

	const leave, enter = 4, 3
	const inTheJobItself = 2 - 1 // counted as they were when the ends of its sub-batches were found
	w.tookPending(100 - leave + enter + inTheJobItself)
	w.changedOnce("id % 1000 = 500 AND id NOT IN (33500, 34500, 60500, 99500) OR id IN (33007, 70007, 99400)")
	assert.Equal(t, []int64{7, 99999}, one[[]int64](w, `SELECT array_agg(id ORDER BY id) FROM public.items WHERE pending`),
		"what entered behind the range or beyond the upper bound is not covered")
}

func TestASparseWorkOfAPartitionedTableWithACompositeCursor(t *testing.T) {
	w := setup(t, 0)
	w.exec(`DROP TABLE public.items`)
	w.exec(`CREATE TABLE public.items (tenant int, id bigint, n int NOT NULL DEFAULT 0, pending boolean NOT NULL, PRIMARY KEY (tenant, id)) PARTITION BY RANGE (tenant)`)
	w.exec(`CREATE TABLE public.items_1 PARTITION OF public.items FOR VALUES FROM (MINVALUE) TO (3)`)
	w.exec(`CREATE TABLE public.items_2 PARTITION OF public.items FOR VALUES FROM (3) TO (MAXVALUE)`)
	w.exec(`INSERT INTO public.items SELECT CASE WHEN g % 2 = 0 THEN 4 ELSE g % 7 END, g, 0, g % 50 = 0 OR g % 77 = 0 FROM generate_series(1, 50000) AS g`)
	w.exec(`CREATE INDEX ON public.items (tenant, id) WHERE pending`)
	w.exec(`ANALYZE public.items`)
	pending := one[int](w, `SELECT count(*) FROM public.items WHERE pending`)
	w.enqueue("take", "public.items", 100, 30)
	require.NoError(t, w.runUntilIdle(parse(t, "take", strings.Replace(takePending, "cursor: id", "cursor: tenant, id", 1))))

	w.tookPending(pending)
	w.changedOnce("id % 50 = 0 OR id % 77 = 0")
}

func TestAScopeWithoutRowsIsFinishedAndOneWithoutAnIndexFails(t *testing.T) {
	w := withPending(t, 1000)
	w.exec(`UPDATE public.items SET pending = false`)
	w.exec(`SELECT bbm.enqueue('take', 'public.items'), bbm.enqueue('slow', 'public.items')`)
	slow := parse(t, "slow", strings.Replace(takePending, "scope: pending", "scope: n = 0", 1))
	require.Error(t, w.runUntilIdle(parse(t, "take", takePending), slow))

	w.tookPending(0)
	assert.Equal(t, "failed", w.status("slow"))
	assert.Contains(t, one[string](w, `SELECT failure_error_code || ': ' || failure_message FROM bbm.batched_background_migrations WHERE name = 'slow'`),
		"invalid_cursor: work \"slow\":4: no index serves the scope")
}

func TestAScopeIsWalkedOverInTheWorksSession(t *testing.T) {
	w := withPending(t, 10_000)
	w.exec(`CREATE SCHEMA app`)
	w.exec(`CREATE FUNCTION app.is_waiting(boolean) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1; END'`)
	w.exec(`CREATE INDEX ON public.items (id) WHERE app.is_waiting(pending)`)
	w.enqueue("take", "public.items", 5, 2)
	src := strings.Replace(takePending, "scope: pending", "scope: is_waiting(pending)\n-- search_path: app", 1)
	require.NoError(t, w.runUntilIdle(parse(t, "take", src)))

	w.tookPending(10)
	w.changedOnce("id % 1000 = 500")
}
