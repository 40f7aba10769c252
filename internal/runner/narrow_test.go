package runner_test

import (
	"context"
	"fmt"
	"math/bits"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/runner"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// tryCounter counts the sub-batches that are tried: each sends the work's statement once.
type tryCounter struct{ tries atomic.Int64 }

func (c *tryCounter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}
func (c *tryCounter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c *tryCounter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	for _, queued := range data.Batch.QueuedQueries {
		if strings.Contains(queued.SQL, "SET n = n + 1") {
			c.tries.Add(1)
		}
	}
	return ctx
}
func (c *tryCounter) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (c *tryCounter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// runCounting runs one runner until nothing is left to do, and counts its tries.
func (w *world) runCounting(works ...*work.Work) (tries int, err error) {
	w.t.Helper()
	counter := &tryCounter{}
	connConfig, err := pgx.ParseConfig(w.url)
	require.NoError(w.t, err)
	connConfig.Tracer = counter
	registry, err := work.NewRegistry(works...)
	require.NoError(w.t, err)
	r, err := runner.New(connConfig, registry, w.config())
	require.NoError(w.t, err)
	err = r.Run(w.ctx)
	return int(counter.tries.Load()), err
}

// mostTries is how many tries find one row among so many: the first, one for each halving, and one for the row alone.
func mostTries(rows int) int { return bits.Len(uint(rows-1)) + 2 }

func TestARowThatFailsIsFoundInALogarithmicNumberOfTries(t *testing.T) {
	const rows = 1000
	for _, bad := range []int{1, 2, 333, 500, 501, 999, rows} {
		t.Run(fmt.Sprint(bad), func(t *testing.T) {
			w := setup(t, rows)
			w.exec(fmt.Sprintf(`ALTER TABLE public.items ADD CONSTRAINT sound CHECK (id <> %d OR n = 0)`, bad))
			w.enqueue("count", "public.items", rows, rows)
			w.exec(`UPDATE bbm.batched_background_migrations SET max_attempts = 1`)
			tries, err := w.runCounting(parse(t, "count", increment))
			require.Error(t, err)
			require.LessOrEqual(t, tries, mostTries(rows))
			require.Greater(t, tries, 1)
			require.Equal(t, []string{fmt.Sprint(bad)}, one[[]string](w, `SELECT exception_key FROM bbm.batched_background_migration_jobs`))
			require.Zero(t, one[int](w, `SELECT count(*) FROM public.items WHERE n <> (id < $1)::int`, bad), "each row before it was changed once, and no other")
			require.Equal(t, bad-1, one[int](w, `SELECT processed_rows FROM bbm.batched_background_migration_jobs`))
			dbtest.CheckHistory(t, w.conn, "count")
		})
	}
}

func TestTheHistoryNamesTheRowTheConditionAndTheConstraint(t *testing.T) {
	w := setup(t, 100)
	w.exec(failAt33)
	w.enqueue("count", "public.items", 100, 100)
	w.exec(`UPDATE bbm.batched_background_migrations SET max_attempts = 3`)
	tries, err := w.runCounting(parse(t, "count", increment))
	require.Error(t, err)
	require.LessOrEqual(t, tries, mostTries(100)+2, "a later attempt tries the row alone")
	for _, table := range []string{"batched_background_migration_jobs WHERE", "batched_background_migration_job_transition_logs WHERE next_status = 'failed' AND"} {
		require.NotZero(t, one[int](w, `SELECT count(*) FROM bbm.`+table+
			` exception_class = 'check_violation' AND exception_key = '{33}' AND exception_constraint = 'not_33'`), table)
	}
	require.Contains(t, one[string](w, `SELECT failure_message FROM bbm.batched_background_migrations`),
		"failed in 3 of 3 attempts; the last: check_violation on the row with (id) = (33), constraint not_33: new row for relation")
	dbtest.CheckHistory(t, w.conn, "count")

	w.exec(`ALTER TABLE public.items DROP CONSTRAINT not_33`)
	require.NoError(t, w.control().Retry(w.ctx, "count", "", false))
	require.NoError(t, w.runUntilIdle(parse(t, "count", increment)))
	w.eachOnce("count")
}

// What fails, and how: by a check at once, by a trigger, by a constraint at COMMIT, or by the statement itself.
func TestEachKindOfFaultInTheDataIsNarrowedDown(t *testing.T) {
	const trigger = `CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no' USING %s; END $$;
		CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON public.items %s FOR EACH ROW WHEN (NEW.id = 33) EXECUTE FUNCTION public.refuse()`
	for name, tc := range map[string]struct{ fault, statement, class string }{
		"a check":                {failAt33, "n + 1", "check_violation"},
		"an exception":           {fmt.Sprintf(trigger, "ERRCODE = 'P0001'", ""), "n + 1", "raise_exception"},
		"an exception at COMMIT": {fmt.Sprintf(trigger, "ERRCODE = 'P0001'", "DEFERRABLE INITIALLY DEFERRED"), "n + 1", "raise_exception"},
		"a constraint at COMMIT": {fmt.Sprintf(trigger, "ERRCODE = '23503'", "DEFERRABLE INITIALLY DEFERRED"), "n + 1", "foreign_key_violation"},
		"a division by zero":     {"", "n + 1 + 0 / (i.id - 33)::int", "division_by_zero"},
		"a not-null column":      {"", "n + 1 + nullif(i.id, 33)::int - i.id::int", "not_null_violation"},
		"a number out of range":  {`UPDATE public.items SET n = 2147483647 WHERE id = 33`, "n + 1", "numeric_value_out_of_range"},
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t, 64)
			if tc.fault != "" {
				w.exec(tc.fault)
			}
			w.enqueue("count", "public.items", 64, 64)
			w.exec(`UPDATE bbm.batched_background_migrations SET max_attempts = 1`)
			tries, err := w.runCounting(parse(t, "count", strings.Replace(increment, "n + 1", tc.statement, 1)))
			require.Error(t, err)
			require.Equal(t, tc.class, one[string](w, `SELECT exception_class FROM bbm.batched_background_migration_jobs`))
			require.Equal(t, []string{"33"}, one[[]string](w, `SELECT exception_key FROM bbm.batched_background_migration_jobs`))
			require.Zero(t, one[int](w, `SELECT count(*) FROM public.items WHERE id <> 33 AND n <> (id < 33)::int`))
			require.LessOrEqual(t, tries, mostTries(64))
			dbtest.CheckHistory(t, w.conn, "count")
		})
	}
}

func TestRowsOfAnyKeyAreFoundAndNothingChangesTwice(t *testing.T) {
	for name, tc := range map[string]struct {
		columns, cursor, values string
		bad                     string // the failing rows, by position
		args                    []any
	}{
		"composite": {"a int, b text, PRIMARY KEY (a, b)", "a, b", `SELECT g % 5, 'b' || g FROM generate_series(1, 200) AS g`, "{1,57,58,200}", nil},
		"text":      {"a text PRIMARY KEY", "a", `SELECT DISTINCT v FROM unnest($1::text[]) AS v LIMIT 300`, "{1,2,100,101,299,300}", []any{awkwardTexts()}},
		"uuid":      {"a uuid PRIMARY KEY", "a", `SELECT gen_random_uuid() FROM generate_series(1, 200)`, "{1,77,200}", nil},
		"timestamp": {"a timestamptz PRIMARY KEY", "a", `SELECT now() + g * interval '1.5 s' FROM generate_series(1, 200) AS g`, "{3}", nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t, 0)
			w.exec(`CREATE TABLE public.keys (` + tc.columns + `, n int NOT NULL DEFAULT 0, is_bad boolean NOT NULL DEFAULT false, CONSTRAINT sound CHECK (NOT is_bad OR n = 0))`)
			w.exec(`INSERT INTO public.keys (`+tc.cursor+`) `+tc.values, tc.args...)
			w.exec(`UPDATE public.keys AS k SET is_bad = true FROM (SELECT `+tc.cursor+`, row_number() OVER (ORDER BY `+tc.cursor+`) AS r FROM public.keys) AS x
				WHERE (`+prefixed("k.", tc.cursor)+`) = (`+prefixed("x.", tc.cursor)+`) AND x.r = ANY ($1::text::int[])`, tc.bad)
			bad := one[int](w, `SELECT count(*) FROM public.keys WHERE is_bad`)
			require.Equal(t, strings.Count(tc.bad, ",")+1, bad)
			w.enqueue("count", "public.keys", 100, 50)
			w.exec(`UPDATE bbm.batched_background_migrations SET on_row_error = 'quarantine'`)
			require.NoError(t, w.runUntilIdle(counter(t, "public.keys", tc.cursor)))

			require.Equal(t, "finished", w.status("count"))
			require.Zero(t, one[int](w, `SELECT count(*) FROM public.keys WHERE n <> (NOT is_bad)::int`), "all but the bad rows are changed once")
			require.Zero(t, one[int](w, `SELECT count(*) FROM (
				SELECT ARRAY[`+texts(tc.cursor)+`] FROM public.keys WHERE is_bad
				EXCEPT SELECT row_key FROM bbm.batched_background_migration_quarantined_rows WHERE exception_constraint = 'sound') AS missing`))
			require.Equal(t, bad, one[int](w, `SELECT quarantined_rows FROM bbm.batched_background_migrations`))
			require.Equal(t, one[int](w, `SELECT count(*) FROM public.keys`), one[int](w, `SELECT processed_rows FROM bbm.batched_background_migrations`))
			dbtest.CheckHistory(t, w.conn, "count")

			w.exec(`ALTER TABLE public.keys DROP CONSTRAINT sound`)
			w.retryQuarantined("count", bad)
			require.NoError(t, w.runUntilIdle(counter(t, "public.keys", tc.cursor)))
			require.Zero(t, one[int](w, `SELECT count(*) FROM public.keys WHERE n <> 1`))
			require.Zero(t, one[int](w, `SELECT quarantined_rows FROM bbm.batched_background_migrations`))
			dbtest.CheckHistory(t, w.conn, "count")
		})
	}
}

func prefixed(alias, columns string) string {
	return alias + strings.ReplaceAll(columns, ", ", ", "+alias)
}

func texts(columns string) string { return strings.ReplaceAll(columns, ", ", "::text, ") + "::text" }
