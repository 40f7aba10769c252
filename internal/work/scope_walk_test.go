package work

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sparse makes public.sparse: a million rows of about 150 bytes, every thousandth of which is pending.
const sparse = `
CREATE TABLE public.sparse (id bigint PRIMARY KEY, pending boolean NOT NULL, n int NOT NULL DEFAULT 0, pad text DEFAULT repeat('x', 110));
INSERT INTO public.sparse SELECT i, i % 1000 = 500 FROM generate_series(1, 1000000) AS i;
CREATE INDEX pending_idx ON public.sparse (id) WHERE pending;`

// onPending builds the statements of a work on the pending rows of a table.
func onPending(t testing.TB, table string, columns ...Column) *Statements {
	t.Helper()
	w := &Work{Name: "count", Table: "public." + table, Scope: "pending"}
	for _, column := range columns {
		w.Cursor = append(w.Cursor, column.Name)
	}
	var err error
	w.statement, err = compile(source{"count", "UPDATE public." + table + " AS x SET n = n + 1, pending = false WHERE @batch(x) AND x.pending", 1}, w, true)
	require.NoError(t, err)
	return NewStatements(w, Target{Schema: "public", Table: table, Columns: columns})
}

func TestAScopedWalkVisitsOnlyItsRows(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	execute(t, conn, sparse)
	execute(t, conn, "VACUUM ANALYZE public.sparse")
	s := onPending(t, "sparse", Column{"id", "bigint"})
	until := lastKey(t, conn, s)
	require.Equal(t, Key{"999500"}, until)

	boundaries, pages := 0, 0
	for after := Key(nil); ; {
		r := Range{after, until}
		sql, values := s.Boundary(r, 20, 20)
		p := explain(t, conn, sql, values, StreamingPlans)
		assertStreams(t, p, "id")
		for _, node := range p.nodes() {
			if node.Relation != "" {
				assert.Equal(t, []any{"Index Only Scan", "pending_idx", "", 0}, []any{node.NodeType, node.Index, node.Filter, node.HeapFetches})
			}
		}
		boundaries++
		pages += p.pages()
		b, found := boundary(t, conn, s, r, 20)
		require.True(t, found)
		require.EqualValues(t, 20, b.rows)
		if b.ended {
			break
		}
		after = b.key
	}
	assert.Equal(t, 1000/20, boundaries)
	assert.LessOrEqual(t, pages, boundaries*30, "a few pages of the index and one of the visibility map a row, of 20,000 pages of the table")

	assert.EqualValues(t, 1000, walk(t, conn, s, Range{nil, until}, 100, 20))
	assertPendingOnce(t, conn, "sparse", "id % 1000 = 500")
	assert.Nil(t, lastKey(t, conn, s), "nothing is left in the scope")
}

// assertPendingOnce makes sure that the rows of the condition, and no others, were changed, each once.
func assertPendingOnce(t *testing.T, conn *pgx.Conn, table, condition string) {
	t.Helper()
	var wrong int
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM public."+table+" WHERE n <> ("+condition+")::int OR pending").Scan(&wrong))
	assert.Zero(t, wrong)
}

func TestScopedWalksOfCompositeCursorsAndPartitions(t *testing.T) {
	t.Parallel()
	const definition = "(tenant int, id bigint, pending boolean NOT NULL, n int NOT NULL DEFAULT 0, PRIMARY KEY (tenant, id))"
	for name, create := range map[string]string{
		"plain": "CREATE TABLE public.t " + definition,
		"ranges": "CREATE TABLE public.t " + definition + ` PARTITION BY RANGE (tenant);
			CREATE TABLE public.t_1 PARTITION OF public.t FOR VALUES FROM (MINVALUE) TO (5);
			CREATE TABLE public.t_2 PARTITION OF public.t FOR VALUES FROM (5) TO (MAXVALUE)`,
		"hashes": "CREATE TABLE public.t " + definition + ` PARTITION BY HASH (id);
			CREATE TABLE public.t_1 PARTITION OF public.t FOR VALUES WITH (MODULUS 2, REMAINDER 0);
			CREATE TABLE public.t_2 PARTITION OF public.t FOR VALUES WITH (MODULUS 2, REMAINDER 1)`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t)
			execute(t, conn, create+`;
				INSERT INTO public.t SELECT CASE WHEN i % 3 > 0 THEN 6 ELSE i % 10 END, i, i % 97 = 0 FROM generate_series(1, 50000) AS i;
				CREATE INDEX pending_idx ON public.t (tenant, id) WHERE pending; ANALYZE public.t`)
			s := onPending(t, "t", Column{"tenant", "integer"}, Column{"id", "bigint"})
			until := lastKey(t, conn, s)
			for _, after := range []Key{nil, {"3", "100"}, {until[0], "1"}} {
				sql, values := s.Boundary(Range{after, until}, 20, 20)
				p := explain(t, conn, sql, values, StreamingPlans)
				assertStreams(t, p, "tenant")
				for _, node := range p.nodes() {
					if node.Relation != "" {
						assert.Empty(t, node.Filter)
						assert.True(t, strings.HasSuffix(node.Index, "idx"), node.Index)
					}
				}
			}
			assert.EqualValues(t, 50000/97, walk(t, conn, s, Range{nil, until}, 100, 33, 7))
			assertPendingOnce(t, conn, "t", "id % 97 = 0")
		})
	}
}

func TestWithoutAScopeSkippedRowsCostAnIndexOnlyScan(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	execute(t, conn, sparse)
	execute(t, conn, "VACUUM ANALYZE public.sparse")
	s := on(t, "sparse", Column{"id", "bigint"})
	for _, limit := range []int{1000, 50_000} {
		scan := explain(t, conn, fmt.Sprintf("SELECT count(*) FROM public.sparse WHERE id > 300000 AND id <= %d", 300_000+limit), nil, StreamingPlans)
		sql, values := s.Boundary(Range{Key{"300000"}, lastKey(t, conn, s)}, limit, limit)
		walked := explain(t, conn, sql, values, StreamingPlans)
		for _, node := range append(scan.nodes(), walked.nodes()...) {
			if node.Relation != "" {
				assert.Equal(t, []any{"Index Only Scan", 0}, []any{node.NodeType, node.HeapFetches})
			}
		}
		assert.LessOrEqual(t, walked.pages(), scan.pages()+1, "pages of a boundary and of an index-only scan of the same rows")
	}
}

// BenchmarkWalk is what it costs to walk over a million rows: by the end of each job, by the end of each sub-batch, and over a scope of a
// thousand of them; beside it the index-only scan and the full scan that the first two are to be measured by.
func BenchmarkWalk(b *testing.B) {
	conn := connect(b)
	execute(b, conn, sparse)
	execute(b, conn, "VACUUM ANALYZE public.sparse")
	execute(b, conn, strings.ReplaceAll(StreamingPlans, "true)", "false)"))
	execute(b, conn, "SET plan_cache_mode = force_custom_plan; SET max_parallel_workers_per_gather = 0; SET jit = off")
	all, pending := on(b, "sparse", Column{"id", "bigint"}), onPending(b, "sparse", Column{"id", "bigint"})
	for _, c := range []struct {
		name  string
		s     *Statements
		limit int
	}{{"jobs of 50000", all, 50_000}, {"sub-batches of 1000", all, 1000}, {"a scope's sub-batches of 20", pending, 20}} {
		b.Run(c.name, func(b *testing.B) {
			for range b.N {
				for r := (Range{nil, lastKey(b, conn, c.s)}); ; {
					found, _ := boundary(b, conn, c.s, r, c.limit)
					if found.ended {
						break
					}
					r.After = found.key
				}
			}
		})
	}
	for name, sql := range map[string]string{
		"index-only scan": "SELECT count(*) FROM (SELECT id FROM public.sparse ORDER BY id OFFSET 0) AS o",
		"full scan":       "SELECT count(*) FROM public.sparse WHERE pending IS NOT TRUE AND n < 0",
	} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				execute(b, conn, sql)
			}
		})
	}
}

func TestAScopedWalkKeepsToItsIndexInAGenericPlan(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]string{"with statistics": "ANALYZE public.sparse", "without": "ALTER TABLE public.sparse SET (autovacuum_enabled = off)"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t)
			execute(t, conn, strings.ReplaceAll(sparse, "1000000", "50000"))
			execute(t, conn, prepare)
			s := onPending(t, "sparse", Column{"id", "bigint"})
			sql, _ := s.Boundary(Range{Key{"1"}, Key{"49500"}}, 20, 200)
			execute(t, conn, "PREPARE walk AS "+sql)
			p := explain(t, conn, "EXECUTE walk ('1', '49500', 20, 200)", nil, StreamingPlans, "SET LOCAL plan_cache_mode = force_generic_plan")
			assertStreams(t, p, "$2")
			for _, node := range p.nodes() {
				if node.Relation != "" {
					assert.Equal(t, []any{"pending_idx", ""}, []any{node.Index, node.Filter})
				}
			}
		})
	}
}
