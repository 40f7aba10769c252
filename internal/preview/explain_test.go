package preview_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/preview"
	"github.com/bbm-runner/bbm-runner/internal/session"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

const incrementAll = "UPDATE public.items AS i SET n = n + 1 WHERE @batch(i)"

func TestTheStatementsAreThoseOfARun(t *testing.T) {
	w := setup(t, items)
	of := onItems(t, incrementAll)
	e := w.explain(of)
	target, err := work.Resolve(t.Context(), w.conn, of)
	require.NoError(t, err)
	statements := work.NewStatements(of, target)

	sql, values, err := statements.Work(work.Range{After: e.Range.After, Until: e.Range.Until}, nil)
	require.NoError(t, err)
	assert.Equal(t, sql, e.Statement.SQL)
	assert.Equal(t, values, e.Statement.Parameters)
	assert.Nil(t, e.Statement.Before)
	assert.Contains(t, e.Statement.PlanText, "Index Scan using items_pkey")

	sql, values = statements.Boundary(work.Range{After: e.Range.After, Until: work.Key{"5000"}}, work.DefaultSubBatchSize, work.DefaultSubBatchSize)
	assert.Equal(t, sql, e.Boundary.SQL)
	assert.Equal(t, values, e.Boundary.Parameters)
	assert.Equal(t, work.StreamingPlans, *e.Boundary.Before)
	assert.Contains(t, e.Boundary.PlanText, "enable_sort = 'off'")
	assert.NotContains(t, e.Statement.PlanText, "enable_sort", "the work runs without the boundary query's settings")
	assert.Equal(t, []string{"items_pkey"}, e.CursorIndex)
	assert.Contains(t, e.Settings, preview.Setting{Name: "search_path", Value: `pg_catalog, "public", pg_temp`})
	assert.Contains(t, e.Settings, preview.Setting{Name: "row_security", Value: "off"})
	assert.Contains(t, e.Settings, preview.Setting{Name: "plan_cache_mode", Value: "force_custom_plan"})
	assert.Equal(t, []int64{5000, 1, 5}, []int64{e.Rows, e.Jobs, e.SubBatches})
}

func TestTheRangeIsFromTheMiddle(t *testing.T) {
	w := setup(t, `
		CREATE TABLE public.items (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0, pad text);
		INSERT INTO public.items SELECT i * 3, 0, repeat('x', 500) FROM generate_series(1, 20000) AS i;
		ANALYZE public.items`)
	e := w.explain(onItems(t, incrementAll))
	after, err := strconv.Atoi(e.Range.After[0])
	require.NoError(t, err)
	assert.InDelta(t, 30_000, after, 60_000*0.2, "a sample of 200 pages is off by a fifth of the range once in millions")
	assert.EqualValues(t, 1000, e.Range.Rows)
	assert.Contains(t, e.Range.Found, "approximate")
	assert.Equal(t, e.Range, w.explain(onItems(t, incrementAll)).Range, "the same place again")
}

func TestSmallTablesHaveAMiddleToo(t *testing.T) {
	w := setup(t, `CREATE TABLE public.items (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0)`)
	for _, c := range []struct {
		rows  int
		after work.Key
		until string
	}{{1, nil, "1"}, {2, nil, "2"}, {1000, nil, "1000"}, {1001, work.Key{"1"}, "1001"}, {1500, work.Key{"500"}, "1500"}, {3001, work.Key{"1501"}, "2501"}} {
		w.exec(`TRUNCATE public.items; INSERT INTO public.items SELECT generate_series(1, ` + strconv.Itoa(c.rows) + `)`)
		e := w.explain(onItems(t, incrementAll))
		assert.Equal(t, c.after, e.Range.After, c.rows)
		assert.Equal(t, work.Key{c.until}, e.Range.Until, c.rows)
	}
}

func TestAnEmptyTableHasNoPlans(t *testing.T) {
	w := setup(t, `CREATE TABLE public.items (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0)`, "CREATE INDEX i ON public.items (n)")
	e := w.explain(onItems(t, incrementAll))
	assert.Nil(t, e.Range)
	assert.Nil(t, e.Boundary)
	assert.Nil(t, e.Statement)
	assert.Contains(t, codes(e.Warnings), "empty_table")
	require.Len(t, e.Writes, 1, "what a write drags along is known all the same")
	assert.Equal(t, []string{"public.i"}, e.Writes[0].HOT.BlockedBy)
}

func TestAWorkInGoIsExplainedAsFarAsItIsKnown(t *testing.T) {
	w := setup(t, items, "CREATE INDEX i ON public.items (n)")
	e := w.explain(&work.Work{Name: "go", Version: "1", Table: "public.items", Cursor: []string{"id"}, Do: func(context.Context, pgx.Tx, work.Batch) (int64, error) {
		return 0, nil
	}})
	assert.NotNil(t, e.Boundary)
	assert.Nil(t, e.Statement)
	assert.Contains(t, codes(e.Warnings), "go_work")
	assert.Equal(t, "unknown", e.Writes[0].Operation)
	assert.Len(t, e.Writes[0].Indexes, 2)
}

func TestAScopeIsWalkedAlone(t *testing.T) {
	w := setup(t, items, "UPDATE public.items SET m = 1 WHERE id % 100 = 0", "CREATE INDEX todo ON public.items (id) WHERE m = 1", "VACUUM ANALYZE public.items")
	of, err := work.Parse("w", []byte("-- description: d\n-- table: public.items\n-- cursor: id\n-- scope: m = 1\n-- sub_batch_size: 10\n\n-- +bbm Work\n"+
		"UPDATE public.items AS i SET m = 2 WHERE @batch(i) AND i.m = 1"))
	require.NoError(t, err)
	e := w.explain(of)
	assert.Equal(t, "m = 1", *e.Scope)
	assert.Equal(t, []string{"todo"}, e.CursorIndex)
	assert.InDelta(t, 50, e.Rows, 20)
	assert.Equal(t, work.Key{"2500"}, e.Range.After)
	assert.Equal(t, work.Key{"3500"}, e.Range.Until)
	assert.EqualValues(t, 10, e.Range.Rows)
	assert.Equal(t, []string{"public.todo"}, e.Writes[0].HOT.BlockedBy)

	s := w.sample(preview.Subject{Work: of}, everywhere)
	var found []string
	for _, each := range s.SubBatches {
		found = append(found, fmt.Sprint(each.After, each.Until, each.AffectedRows))
	}
	assert.Equal(t, []string{"[] [1000] 10", "[2500] [3500] 10", "[4000] [5000] 10"}, found)
	w.exec("UPDATE public.items SET m = 0")
	assert.Contains(t, message(t, w.explain(of).Warnings, "empty_table"), "is empty in the scope")
}

func TestTheLookForWhatRemainsIsShownAsItIsSent(t *testing.T) {
	w := setup(t, items, "VACUUM ANALYZE public.items")
	of, err := work.Parse("w", []byte("-- description: d\n-- table: public.items\n-- cursor: id\n-- remaining: m = 1\n\n-- +bbm Work\n"+
		"UPDATE public.items AS i SET m = 2 WHERE @batch(i) AND i.m = 1"))
	require.NoError(t, err)
	e := w.explain(of)
	assert.Contains(t, e.Remaining.SQL, "(m = 1) IS TRUE THEN")
	assert.Contains(t, e.Remaining.PlanText, "Index Scan using items_pkey")
	assert.NotContains(t, e.Remaining.PlanText, "Seq Scan")
	of.Remaining = ""
	assert.Nil(t, w.explain(of).Remaining)
}

func TestAScopeOfFewRowsHasAMiddleToo(t *testing.T) {
	w := setup(t, `
		CREATE TABLE public.items (id bigint PRIMARY KEY, m int NOT NULL DEFAULT 0, pad text);
		INSERT INTO public.items SELECT i, (i % 10000 = 7)::int, repeat('x', 500) FROM generate_series(1, 50000) AS i;
		CREATE INDEX todo ON public.items (id) WHERE m = 1;
		ANALYZE public.items`)
	of, err := work.Parse("w", []byte("-- description: d\n-- table: public.items\n-- cursor: id\n-- scope: m = 1\n-- sub_batch_size: 1\n\n-- +bbm Work\n"+
		"UPDATE public.items AS i SET m = 2 WHERE @batch(i) AND i.m = 1"))
	require.NoError(t, err)
	e := w.explain(of)
	assert.EqualValues(t, 1, e.Range.Rows)
	assert.NotNil(t, e.Range.After)
	assert.Contains(t, e.Range.Found, "approximate")
}

func TestAMigrationIsExplainedWithWhatItHasFixed(t *testing.T) {
	t.Parallel()
	w := &world{t: t, url: dbtest.New(t)}
	w.conn = w.connect(session.Config{})
	w.exec(items)
	of, err := work.Parse("add", []byte("-- description: d\n-- table: public.items\n-- cursor: id\n-- argument: by int\n\n-- +bbm Work\nUPDATE public.items SET n = n + @by WHERE @batch"))
	require.NoError(t, err)
	works, err := work.NewRegistry(of)
	require.NoError(t, err)
	w.exec(`SELECT bbm.enqueue('add', 'public.items', 'nightly', '{"by": 7}', 2000, 200)`)
	w.exec(`UPDATE bbm.batched_background_migrations SET max_key = '{4000}', work_checksum = 'another'`)

	s, err := preview.OfMigration(t.Context(), w.conn, works, "nightly")
	require.NoError(t, err)
	e, err := preview.Explain(t.Context(), w.conn, s)
	require.NoError(t, err)
	assert.Equal(t, "nightly", *e.Migration)
	assert.Equal(t, []int{2000, 200}, []int{e.BatchSize, e.SubBatchSize})
	assert.False(t, e.IsAdaptive)
	assert.Equal(t, []any{"2000", "2200", "7"}, e.Statement.Parameters)
	assert.Contains(t, codes(e.Warnings), "other_version")

	_, err = preview.OfMigration(t.Context(), w.conn, works, "nowhere")
	require.ErrorIs(t, err, pgx.ErrNoRows)
	none, err := work.NewRegistry()
	require.NoError(t, err)
	_, err = preview.OfMigration(t.Context(), w.conn, none, "nightly")
	require.ErrorContains(t, err, `runs the work "add", which is not here`)
}

func TestAnExplanationChangesNothing(t *testing.T) {
	// A function that calls itself stable is called while planning.
	w := setup(t, items, "CREATE TABLE public.traces (n int)", `
		CREATE FUNCTION public.trace() RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN EXECUTE 'INSERT INTO public.traces VALUES (1)'; RETURN 1; END $$`)
	before := w.dump("public.items")
	w.explain(onItems(t, incrementAll))
	assert.Equal(t, before, w.dump("public.items"))
	_, err := preview.Explain(t.Context(), w.conn, preview.Subject{Work: onItems(t, "UPDATE public.items AS i SET n = 1 WHERE @batch(i) AND n < public.trace()")})
	assert.Error(t, err, "the server keeps it from writing")
	assert.Zero(t, one[int](w, "SELECT count(*) FROM public.traces"))
	assert.Equal(t, byte('I'), w.conn.PgConn().TxStatus())
	assert.Equal(t, "pg_catalog, pg_temp", one[string](w, "SHOW search_path"), "the session is as it was")
}

func TestTheJSONNamesAreStable(t *testing.T) {
	w := setup(t, items, "CREATE INDEX i ON public.items (n)", `
		CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
		CREATE TRIGGER t BEFORE UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.f();
		ALTER TABLE public.items ADD FOREIGN KEY (n) REFERENCES public.items NOT VALID`)
	encoded, err := json.Marshal(w.explain(onItems(t, incrementAll)))
	require.NoError(t, err)
	var e map[string]any
	require.NoError(t, json.Unmarshal(encoded, &e))
	assert.ElementsMatch(t, []string{
		"work", "checksum", "migration", "table", "cursor", "cursor_indexes", "scope", "arguments", "rows", "batch_size", "sub_batch_size", "is_adaptive",
		"jobs", "sub_batches", "role", "settings", "range", "boundary", "statement", "sizes", "remaining", "writes", "warnings",
	}, keys(e))
	assert.ElementsMatch(t, []string{"before", "sql", "parameters", "plan", "plan_text"}, keys(e["statement"]))
	assert.ElementsMatch(t, []string{"after", "until", "rows", "found"}, keys(e["range"]))
	assert.ElementsMatch(t, []string{"name", "value"}, keys(first(e["settings"])))
	assert.ElementsMatch(t, []string{"code", "message"}, keys(first(e["warnings"])))
	write := first(e["writes"])
	assert.ElementsMatch(t, []string{"table", "operation", "columns", "rows", "fillfactor", "hot", "indexes", "triggers", "foreign_keys"}, keys(write))
	inner := write.(map[string]any)
	assert.ElementsMatch(t, []string{"is_possible", "blocked_by", "meaning"}, keys(inner["hot"]))
	assert.ElementsMatch(t, []string{"name", "definition", "columns", "is_valid", "is_changed", "method"}, keys(first(inner["indexes"])))
	assert.ElementsMatch(t, []string{"name", "table", "function", "timing", "is_enabled", "is_security_definer", "is_deferrable"}, keys(first(inner["triggers"])))
	assert.ElementsMatch(t, []string{
		"name", "table", "columns", "referenced_table", "referenced_columns", "direction", "action", "is_deferred", "is_validated", "is_indexed",
	}, keys(first(inner["foreign_keys"])))
}

// keys are the names of a JSON object.
func keys(object any) []string {
	var names []string
	for name := range object.(map[string]any) {
		names = append(names, name)
	}
	return names
}

func first(array any) any { return array.([]any)[0] }
