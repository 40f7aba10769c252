package preview_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/preview"
	"github.com/bbm-runner/bbm-runner/internal/session"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// everywhere is one sub-batch at three places.
var everywhere = preview.SampleOptions{Shares: []float64{0, 0.5, 1}, Batches: 1}

func (w *world) sample(s preview.Subject, o preview.SampleOptions) *preview.Sampling {
	w.t.Helper()
	conn := w.connect(session.Config{})
	sampled, err := preview.Sample(w.t.Context(), conn, s, o)
	require.NoError(w.t, err)
	require.Equal(w.t, byte('I'), conn.PgConn().TxStatus())
	return sampled
}

// walked is how many rows a sample has gone over.
func walked(s *preview.Sampling) (rows int64) {
	all := s.SubBatches
	if s.Tried != nil {
		all = append(slices.Clone(all), s.Tried.SubBatches...)
	}
	for _, one := range all {
		rows += one.ProcessedRows
	}
	return rows
}

func TestSamplesAreExecutedAndRolledBack(t *testing.T) {
	w := setup(t, items, "ALTER TABLE public.items SET (fillfactor = 50)", "CREATE TABLE public.log (id bigint)", `
		CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.log VALUES (new.id); RETURN new; END';
		CREATE TRIGGER t AFTER UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.note()`)
	before := w.dump("public.items")
	s := w.sample(preview.Subject{Work: onItems(t, incrementAll), SubBatchSize: 500}, preview.SampleOptions{Shares: []float64{0, 0.5, 1}, Batches: 2})
	assert.Equal(t, before, w.dump("public.items"))
	assert.Zero(t, one[int](w, "SELECT count(*) FROM public.log"))

	var found []string
	for _, each := range s.SubBatches {
		found = append(found, fmt.Sprint(each.At, " ", each.Number, " ", each.After, " ", each.Until))
		assert.EqualValues(t, 500, each.ProcessedRows)
		assert.EqualValues(t, 500, each.AffectedRows)
		assert.EqualValues(t, 500, each.UpdatedRows)
		assert.Positive(t, each.Duration)
		assert.Positive(t, *each.Execution)
		assert.Positive(t, each.Buffers.Hit)
		assert.Positive(t, each.Buffers.Dirtied)
		assert.Positive(t, each.WAL.Bytes)
		assert.Greater(t, each.ServerWAL, each.WAL.Bytes, "the trigger's is in it too")
		require.Len(t, each.Triggers, 1)
		assert.EqualValues(t, 500, each.Triggers[0].Calls)
		assert.Equal(t, "t", each.Triggers[0].Name)
	}
	assert.Equal(t, []string{"0 1 [] [500]", "0 2 [500] [1000]", "0.5 1 [2500] [3000]", "0.5 2 [3000] [3500]", "1 1 [4000] [4500]", "1 2 [4500] [5000]"}, found)
	require.NotNil(t, s.Recommendation)
	assert.LessOrEqual(t, s.Recommendation.SubBatchSize, 5000)
	assert.Positive(t, s.Recommendation.Seconds)
	assert.Positive(t, *s.Recommendation.WALBytes)
	assert.Contains(t, codes(s.Notes), "dead_rows")
	rows := walked(s)
	assert.Contains(t, message(t, s.Notes, "dead_rows"), fmt.Sprint(rows, " dead row versions"))
	assert.Equal(t, []preview.DeadRows{{Table: "public.items", Rows: rows}, {Table: "public.log", Rows: rows}}, s.DeadRows)
}

func TestHeapOnlyUpdatesAreCounted(t *testing.T) {
	w := setup(t, `
		CREATE TABLE public.items (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0) WITH (fillfactor = 40);
		INSERT INTO public.items SELECT generate_series(1, 2000)`)
	hot := func() int64 {
		return w.sample(preview.Subject{Work: onItems(t, incrementAll), SubBatchSize: 100}, preview.SampleOptions{Shares: []float64{0.5}, Batches: 1}).SubBatches[0].HOTRows
	}
	assert.EqualValues(t, 100, hot())
	w.exec("CREATE INDEX ON public.items (n)")
	assert.Zero(t, hot())
}

func TestAffectedRowsAreThoseOfTheCommandsTag(t *testing.T) {
	w := setup(t, items, "CREATE TABLE public.copies (id bigint PRIMARY KEY, n int)", "INSERT INTO public.copies SELECT generate_series(1, 10)")
	statements := []string{
		incrementAll,
		incrementAll + " RETURNING i.id",
		incrementAll + " AND i.id % 2 = 0",
		"DELETE FROM public.items AS i WHERE @batch(i)",
		"INSERT INTO public.copies SELECT i.id + 1000 FROM public.items AS i WHERE @batch(i)",
		"INSERT INTO public.copies SELECT i.id FROM public.items AS i WHERE @batch(i) ON CONFLICT DO NOTHING",
		"INSERT INTO public.copies SELECT i.id FROM public.items AS i WHERE @batch(i) ON CONFLICT (id) DO UPDATE SET n = 1",
		"WITH gone AS (DELETE FROM public.items AS i WHERE @batch(i) RETURNING i.id) INSERT INTO public.copies SELECT g.id + 1000 FROM gone AS g WHERE g.id < 50",
		"WITH changed AS (UPDATE public.items AS i SET n = 1 WHERE @batch(i) RETURNING i.id) SELECT c.id FROM changed AS c WHERE c.id < 40",
		"SELECT pg_catalog.length(i.note) FROM public.items AS i WHERE @batch(i)",
		"DELETE FROM public.items AS i WHERE @batch(i) AND i.n > 1",
	}
	if w.version() >= 15 {
		statements = append(statements, `MERGE INTO public.copies AS c USING (SELECT i.id FROM public.items AS i WHERE @batch(i)) AS s ON s.id = c.id
			WHEN MATCHED AND c.id < 5 THEN DELETE WHEN MATCHED AND c.id < 8 THEN UPDATE SET n = 2 WHEN NOT MATCHED AND s.id < 60 THEN INSERT VALUES (s.id, 0)`)
	}
	for _, statement := range statements {
		of := onItems(t, statement)
		s := w.sample(preview.Subject{Work: of, SubBatchSize: 100}, preview.SampleOptions{Shares: []float64{0}, Batches: 1})
		target, err := work.Resolve(t.Context(), w.conn, of)
		require.NoError(t, err)
		sql, values, err := work.NewStatements(of, target).Work(work.Range{Until: s.SubBatches[0].Until}, nil)
		require.NoError(t, err)
		tx, err := w.conn.Begin(t.Context())
		require.NoError(t, err)
		tag, err := tx.Exec(t.Context(), sql, values...)
		require.NoError(t, err)
		require.NoError(t, tx.Rollback(t.Context()))
		assert.Equal(t, tag.RowsAffected(), s.SubBatches[0].AffectedRows, statement)
	}
}

func TestDeferredConstraintsAreCheckedAsCommitWould(t *testing.T) {
	w := setup(t, items, `
		CREATE TABLE public.kinds (id int PRIMARY KEY);
		ALTER TABLE public.items ADD CONSTRAINT kind FOREIGN KEY (n) REFERENCES public.kinds DEFERRABLE INITIALLY DEFERRED NOT VALID`)
	_, err := preview.Sample(t.Context(), w.conn, preview.Subject{Work: onItems(t, incrementAll)}, everywhere)
	require.ErrorContains(t, err, `violates foreign key constraint "kind"`)
	require.ErrorContains(t, err, "the sub-batch of 1000 rows at 0 of public.items (after the beginning, until 1000)")
	assert.NotContains(t, err.Error(), "Key (n)", "no row is quoted")
}

func TestARowThatFailsIsFoundAndLeftOut(t *testing.T) {
	w := setup(t, items, "UPDATE public.items SET n = 7 WHERE id IN (1, 4900)")
	before := w.dump("public.items")
	s := w.sample(preview.Subject{Work: onItems(t, "UPDATE public.items AS i SET m = 1 / (n - 7) WHERE @batch(i)")}, everywhere)
	assert.Equal(t, []preview.BadRange{
		{At: 0, Until: work.Key{"1"}, Rows: 1, Error: "ERROR: division by zero (SQLSTATE 22012)"},
		{At: 1, After: work.Key{"4899"}, Until: work.Key{"4900"}, Rows: 1, Error: "ERROR: division by zero (SQLSTATE 22012)"},
	}, s.BadRanges)
	var found []string
	for _, each := range s.SubBatches {
		found = append(found, fmt.Sprint(each.After, " ", each.Until, " ", each.AffectedRows))
	}
	assert.Equal(t, []string{"[1] [1001] 1000", "[2500] [3500] 1000", "[4900] [5000] 100"}, found, "the sample goes on behind the row")
	assert.NotNil(t, s.Recommendation)
	assert.Contains(t, message(t, s.Notes, "bad_row"), "the row with (id) = (1) fails, and was left out: ERROR: division by zero (SQLSTATE 22012); a run fails on it")
	assert.Equal(t, before, w.dump("public.items"))
}

func TestARowThatFailsByAConstraintIsLeftOut(t *testing.T) {
	for name, constraint := range map[string]string{
		"at once":  "CHECK (id <> 77 OR n = 0)",
		"deferred": "FOREIGN KEY (n) REFERENCES public.kinds DEFERRABLE INITIALLY DEFERRED NOT VALID",
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t, items, "CREATE TABLE public.kinds (id int PRIMARY KEY); INSERT INTO public.kinds VALUES (0), (1)",
				"ALTER TABLE public.items ADD CONSTRAINT kind "+constraint)
			s := w.sample(preview.Subject{Work: onItems(t, "UPDATE public.items AS i SET n = CASE WHEN id = 77 THEN 2 ELSE 1 END WHERE @batch(i)")}, everywhere)
			require.Len(t, s.BadRanges, 1)
			assert.Equal(t, work.Key{"77"}, s.BadRanges[0].Until)
			assert.Contains(t, s.BadRanges[0].Error, `constraint "kind"`)
			assert.NotContains(t, s.BadRanges[0].Error, "Key (n)", "no row is quoted")
			assert.Len(t, s.SubBatches, 3)
		})
	}
}

func TestARowThatAWorkInGoBlamesIsLeftOut(t *testing.T) {
	w := setup(t, items)
	s := w.sample(preview.Subject{Work: goWork(func(ctx context.Context, tx pgx.Tx, b work.Batch) (int64, error) {
		rows, err := b.Query(ctx, tx, "SELECT i.id FROM public.items AS i WHERE @batch(i) AND i.id = 3000")
		if err != nil {
			return 0, err
		}
		if _, err := pgx.CollectOneRow(rows, pgx.RowTo[int64]); err == nil {
			return 0, fmt.Errorf("look: %w", &work.RowError{Err: errors.New("it does not parse")})
		}
		return b.Exec(ctx, tx, incrementAll)
	})}, everywhere)
	assert.Equal(t, []preview.BadRange{{At: 0.5, After: work.Key{"2999"}, Until: work.Key{"3000"}, Rows: 1, Error: "it does not parse"}}, s.BadRanges)
}

func TestAPlaceFullOfRowsThatFailIsLeft(t *testing.T) {
	w := setup(t, items, "UPDATE public.items SET n = 7 WHERE id > 4000")
	s := w.sample(preview.Subject{Work: onItems(t, "UPDATE public.items AS i SET m = 1 / (n - 7) WHERE @batch(i)")}, everywhere)
	assert.Len(t, s.BadRanges, 3)
	assert.Len(t, s.SubBatches, 2)
}

func TestRowsThatFailOnlyTogetherAreLeftOutTogether(t *testing.T) {
	w := setup(t, items, "ALTER TABLE public.items ADD code int UNIQUE")
	// Two rows want one value; which of them has it, only a run that keeps the first tells.
	s := w.sample(preview.Subject{Work: onItems(t, "UPDATE public.items AS i SET code = CASE WHEN id = 900 THEN 20 ELSE id END WHERE @batch(i)")}, everywhere)
	require.Len(t, s.BadRanges, 1)
	assert.EqualValues(t, 1000, s.BadRanges[0].Rows)
	assert.Len(t, s.SubBatches, 3)
	assert.Contains(t, message(t, s.Notes, "bad_range"), "1000 rows at 0 (after the beginning, until 1000) fail together, and were left out: ERROR: duplicate key value")
}

func TestWhereEveryRowFailsTheSampleFailsWithThePlace(t *testing.T) {
	w := setup(t, items)
	_, err := preview.Sample(t.Context(), w.conn, preview.Subject{Work: onItems(t, "UPDATE public.items AS i SET m = 1 / n WHERE @batch(i)")}, everywhere)
	require.ErrorContains(t, err, "the sub-batch of 1000 rows at 0 of public.items (after the beginning, until 1000): ERROR: division by zero")
	var definition *work.DefinitionError
	assert.NotErrorAs(t, err, &definition)
}

func TestAStatementThatTakesTooLongIsToldFromOthers(t *testing.T) {
	w := setup(t, items)
	conn := w.connect(session.Config{StatementTimeout: 300 * time.Millisecond})
	o := everywhere
	o.StatementTimeout = 300 * time.Millisecond
	slow := onItems(t, "UPDATE public.items AS i SET n = 1 WHERE @batch(i) AND pg_catalog.pg_sleep(1) IS NOT NULL")
	_, err := preview.Sample(t.Context(), conn, preview.Subject{Work: slow}, o)
	require.ErrorContains(t, err, "takes longer than the statement timeout of 300ms: try a smaller one")
}

func TestASampleThatIsStoppedIsRolledBack(t *testing.T) {
	w := setup(t, items)
	before := w.dump("public.items")
	ctx, stop := context.WithCancel(t.Context())
	do := func(ctx context.Context, tx pgx.Tx, b work.Batch) (int64, error) {
		if _, err := b.Exec(ctx, tx, incrementAll); err != nil {
			return 0, err
		}
		stop()
		_, err := tx.Exec(ctx, "SELECT pg_catalog.pg_sleep(60)")
		return 0, err
	}
	_, err := preview.Sample(ctx, w.conn, preview.Subject{Work: goWork(do)}, everywhere)
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, byte('I'), w.conn.PgConn().TxStatus(), "the connection lives on")
	assert.Equal(t, before, w.dump("public.items"))
}

func TestAnEmptyTableCannotBeSampled(t *testing.T) {
	w := setup(t, "CREATE TABLE public.items (id bigint PRIMARY KEY, n int)")
	_, err := preview.Sample(t.Context(), w.conn, preview.Subject{Work: onItems(t, incrementAll)}, everywhere)
	require.ErrorContains(t, err, "public.items is empty")
}

func TestCompositeCursorsOfPartitionedTablesAreSampled(t *testing.T) {
	w := setup(t, `
		CREATE TABLE public.parts (tenant int, id bigint, n int NOT NULL DEFAULT 0, PRIMARY KEY (tenant, id)) PARTITION BY HASH (id);
		CREATE TABLE public.parts_1 PARTITION OF public.parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
		CREATE TABLE public.parts_2 PARTITION OF public.parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
		INSERT INTO public.parts SELECT i / 3000, i FROM generate_series(0, 9999) AS i;
		ANALYZE public.parts`)
	before := w.dump("public.parts")
	s := w.sample(preview.Subject{Work: parse(t, "public.parts", "tenant, id", "UPDATE public.parts AS p SET n = n + 1 WHERE @batch(p)")}, everywhere)
	require.Len(t, s.SubBatches, 3)
	for _, each := range s.SubBatches {
		assert.EqualValues(t, 1000, each.AffectedRows)
		assert.EqualValues(t, 1000, each.UpdatedRows, "counted in the partitions")
	}
	assert.Equal(t, work.Key{"3", "9999"}, s.SubBatches[2].Until)
	assert.Equal(t, before, w.dump("public.parts"))
}

func goWork(do work.DoFunc) *work.Work {
	return &work.Work{Name: "go", Version: "1", Table: "public.items", Cursor: []string{"id"}, Do: do}
}

func TestAWorkInGoIsSampled(t *testing.T) {
	w := setup(t, items)
	before := w.dump("public.items")
	do := func(ctx context.Context, tx pgx.Tx, b work.Batch) (int64, error) {
		return b.Exec(ctx, tx, incrementAll)
	}
	s := w.sample(preview.Subject{Work: goWork(do)}, everywhere)
	require.Len(t, s.SubBatches, 3)
	assert.EqualValues(t, 1000, s.SubBatches[0].AffectedRows)
	assert.EqualValues(t, 1000, s.SubBatches[0].UpdatedRows)
	assert.Positive(t, s.SubBatches[0].ServerWAL)
	assert.Nil(t, s.SubBatches[0].WAL)
	assert.NotNil(t, s.Recommendation)
	assert.Nil(t, s.Recommendation.WALBytes)
	assert.Equal(t, before, w.dump("public.items"))
}

func TestAWorkInGoThatMisbehavesIsReported(t *testing.T) {
	w := setup(t, items)
	before := w.dump("public.items")
	external := goWork(func(context.Context, pgx.Tx, work.Batch) (int64, error) { t.Error("it was called"); return 0, nil })
	external.ExternalEffects = true
	for want, of := range map[string]*work.Work{
		"declares external effects": external,
		"boom":                      goWork(func(context.Context, pgx.Tx, work.Batch) (int64, error) { panic("boom") }),
		"out of luck":               goWork(func(context.Context, pgx.Tx, work.Batch) (int64, error) { return 0, errors.New("out of luck") }),
		"the sample ends":           goWork(func(ctx context.Context, tx pgx.Tx, _ work.Batch) (int64, error) { return 0, tx.Commit(ctx) }),
		"has ended the sample's transaction": goWork(func(ctx context.Context, tx pgx.Tx, _ work.Batch) (int64, error) {
			_, err := tx.Conn().Exec(ctx, "COMMIT; BEGIN; SAVEPOINT bbm")
			return 0, err
		}),
	} {
		_, err := preview.Sample(t.Context(), w.conn, preview.Subject{Work: of}, everywhere)
		require.ErrorContains(t, err, want)
	}
	_, err := preview.Sample(t.Context(), w.conn, preview.Subject{Work: external}, everywhere)
	require.ErrorIs(t, err, preview.ErrExternalEffects)
	assert.Equal(t, before, w.dump("public.items"))
}

func TestTheSamplesJSONNamesAreStable(t *testing.T) {
	w := setup(t, items, `
		CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
		CREATE TRIGGER t AFTER UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.f()`)
	encoded, err := json.Marshal(w.sample(preview.Subject{Work: onItems(t, incrementAll)}, everywhere))
	require.NoError(t, err)
	var s map[string]any
	require.NoError(t, json.Unmarshal(encoded, &s))
	assert.ElementsMatch(t, []string{
		"work", "checksum", "table", "arguments", "rows", "batch_size", "sub_batch_size", "lock_timeout_ms", "statement_timeout_ms", "found", "samples", "tried", "bad_ranges",
		"dead_rows", "recommendation", "notes",
	}, keys(s))
	sample := first(s["samples"])
	assert.ElementsMatch(t, []string{
		"at", "number", "after", "until", "processed_rows", "affected_rows", "duration_ms", "boundary_ms", "constraints_ms", "planning_ms", "execution_ms",
		"triggers", "buffers", "wal", "server_wal_bytes", "updated_rows", "hot_updated_rows",
	}, keys(sample))
	inner := sample.(map[string]any)
	assert.ElementsMatch(t, []string{"name", "table", "calls", "time_ms"}, keys(first(inner["triggers"])))
	assert.ElementsMatch(t, []string{"sub_batch_size", "samples", "is_dearer"}, keys(s["tried"]))
	assert.ElementsMatch(t, []string{"table", "rows"}, keys(first(s["dead_rows"])))
	assert.ElementsMatch(t, []string{"shared_hit", "shared_read", "shared_dirtied", "shared_written"}, keys(inner["buffers"]))
	assert.ElementsMatch(t, []string{"records", "full_page_images", "bytes"}, keys(inner["wal"]))
	assert.ElementsMatch(t, []string{"target_ms", "sub_batch_size", "run_seconds", "run_sub_batches", "run_wal_bytes"}, keys(s["recommendation"]))
}
