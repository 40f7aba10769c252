package work

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// plan is one node of EXPLAIN's JSON.
type plan struct {
	NodeType    string `json:"Node Type"`
	Relation    string `json:"Relation Name"`
	Index       string `json:"Index Name"`
	IndexCond   string `json:"Index Cond"`
	Filter      string `json:"Filter"`
	HeapFetches int    `json:"Heap Fetches"`
	Hit         int    `json:"Shared Hit Blocks"`
	Read        int    `json:"Shared Read Blocks"`
	Plans       []plan
}

// pages is how many pages the statement read, cached or not.
func (p plan) pages() int { return p.Hit + p.Read }

// nodes returns the node and all below it.
func (p plan) nodes() []plan {
	all := []plan{p}
	for _, child := range p.Plans {
		all = append(all, child.nodes()...)
	}
	return all
}

// explain runs the statement after the others, rolls it back and returns its plan, made for these values as the runner has it.
func explain(t *testing.T, conn *pgx.Conn, sql string, values []any, before ...string) plan {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback(t.Context())) }()
	for _, statement := range append([]string{"SET LOCAL plan_cache_mode = force_custom_plan"}, before...) {
		_, err = tx.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	var text []byte
	require.NoError(t, tx.QueryRow(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+sql, values...).Scan(&text))
	var roots []struct{ Plan plan }
	require.NoError(t, json.Unmarshal(text, &roots))
	return roots[0].Plan
}

// assertIndexed makes sure that every scan starts from an index, with a condition on its first column.
func assertIndexed(t *testing.T, p plan, firstColumn string) {
	t.Helper()
	for _, node := range p.nodes() {
		assert.NotEqual(t, "Seq Scan", node.NodeType)
		if strings.Contains(node.NodeType, "Index") {
			assert.Contains(t, node.IndexCond, firstColumn)
		}
	}
}

// assertStreams makes sure that the index is walked in its order: nothing is collected, sorted or hashed on the way.
func assertStreams(t *testing.T, p plan, firstColumn string) {
	t.Helper()
	assertIndexed(t, p, firstColumn)
	for _, node := range p.nodes() {
		for _, collects := range []string{"Sort", "Hash", "Bitmap"} {
			assert.NotContains(t, node.NodeType, collects)
		}
	}
}

// bigTables has tables of 300,000 rows; in comp, tenant 500 alone has 200,000 of them.
const bigTables = `
CREATE TABLE public.plain (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0, pad text DEFAULT repeat('x', 40));
INSERT INTO public.plain SELECT i FROM generate_series(1, 300000) AS i;
CREATE TABLE public.random (id uuid PRIMARY KEY, n int NOT NULL DEFAULT 0, pad text DEFAULT repeat('x', 40));
INSERT INTO public.random SELECT md5(i::text)::uuid FROM generate_series(1, 300000) AS i;
CREATE TABLE public.comp (tenant int, id bigint, n int NOT NULL DEFAULT 0, pad text DEFAULT repeat('x', 40), PRIMARY KEY (tenant, id));
INSERT INTO public.comp SELECT CASE WHEN i <= 50000 THEN i / 100 WHEN i <= 250000 THEN 500 ELSE 500 + (i - 250000) / 100 END, i
FROM generate_series(1, 300000) AS i;
CREATE TABLE public.ranges (LIKE public.comp INCLUDING ALL) PARTITION BY RANGE (tenant);
CREATE TABLE public.ranges_1 PARTITION OF public.ranges FOR VALUES FROM (MINVALUE) TO (500);
CREATE TABLE public.ranges_2 PARTITION OF public.ranges FOR VALUES FROM (500) TO (MAXVALUE);
INSERT INTO public.ranges SELECT * FROM public.comp;
CREATE TABLE public.hashes (LIKE public.comp INCLUDING ALL) PARTITION BY HASH (id);
CREATE TABLE public.hashes_1 PARTITION OF public.hashes FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE public.hashes_2 PARTITION OF public.hashes FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO public.hashes SELECT * FROM public.comp;`

// on builds the statements of a work on one of the big tables.
func on(t testing.TB, table string, columns ...Column) *Statements {
	t.Helper()
	target := Target{Schema: "public", Table: table, Columns: columns}
	w := &Work{Name: "count", Table: "public." + table}
	var err error
	w.statement, err = compile(source{"count", "UPDATE public." + table + " AS x SET n = n + 1 WHERE @batch(x)", 1}, w, true)
	require.NoError(t, err)
	return NewStatements(w, target)
}

func TestPlansStreamTheIndexAndCostTheSameEverywhere(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	execute(t, conn, bigTables)
	execute(t, conn, "VACUUM ANALYZE")
	tenant, id := Column{"tenant", "integer"}, Column{"id", "bigint"}
	composite := []struct {
		name  string
		r     Range
		pages int // at most, of a boundary of 1,000 rows
	}{
		{"the beginning", Range{nil, Key{"1000", "300000"}}, 30},
		{"across small tenants", Range{Key{"300", "30000"}, Key{"1000", "300000"}}, 30},
		{"the big tenant's beginning", Range{Key{"500", "50001"}, Key{"500", "250000"}}, 30},
		{"the big tenant's middle", Range{Key{"500", "150000"}, Key{"500", "250000"}}, 30},
		{"the big tenant's end", Range{Key{"500", "248000"}, Key{"500", "250000"}}, 30},
		{"the big tenant's middle and beyond", Range{Key{"500", "150000"}, Key{"1000", "300000"}}, 30},
	}
	for _, table := range []string{"comp", "ranges", "hashes"} {
		s := on(t, table, tenant, id)
		for _, test := range composite {
			t.Run(fmt.Sprintf("%s, %s", table, test.name), func(t *testing.T) {
				sql, values := s.Boundary(test.r, 1000, 1000)
				p := explain(t, conn, sql, values)
				assertStreams(t, p, "tenant")
				assert.LessOrEqual(t, p.pages(), test.pages, "pages of the boundary query")

				const pieces = 20
				sql, values = s.Boundary(test.r, 1000, pieces*1000)
				p = explain(t, conn, sql, values, StreamingPlans)
				assertStreams(t, p, "tenant")
				assert.LessOrEqual(t, p.pages(), pieces*test.pages, "pages of the boundary query of many pieces")
			})
		}
		t.Run(table+", work in the big tenant's middle", func(t *testing.T) {
			sql, values, err := s.Work(Range{Key{"500", "150000"}, Key{"500", "151000"}}, nil)
			require.NoError(t, err)
			p := explain(t, conn, sql, values)
			assertIndexed(t, p, "tenant")
			for _, node := range p.nodes() {
				if len(node.Plans) == 0 {
					assert.LessOrEqual(t, node.pages(), 60, "pages of the scan of 1,000 rows")
				}
			}
		})
		t.Run(table+", last key", func(t *testing.T) {
			p := explain(t, conn, s.LastKey(), nil)
			assert.LessOrEqual(t, p.pages(), 20)
			for _, node := range p.nodes() {
				assert.NotContains(t, node.NodeType, "Sort")
			}
		})
	}
	for _, s := range []*Statements{on(t, "plain", id), on(t, "random", Column{"id", "uuid"})} {
		t.Run(s.target.Table, func(t *testing.T) {
			whole := Range{nil, lastKey(t, conn, s)}
			sql, values := s.Boundary(whole, 50_000, 50_000)
			assertStreams(t, explain(t, conn, sql, values), "id")

			middle, found := boundary(t, conn, s, whole, 150_000)
			require.True(t, found)
			next, found := boundary(t, conn, s, Range{middle.key, whole.Until}, 1000)
			require.True(t, found)
			sql, values, err := s.Work(Range{middle.key, next.key}, nil)
			require.NoError(t, err)
			assertIndexed(t, explain(t, conn, sql, values), "id")
		})
	}
}

func TestStreamingPlansNeedNoStatistics(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	execute(t, conn, "CREATE TABLE public.random (id uuid PRIMARY KEY, n int NOT NULL DEFAULT 0) WITH (autovacuum_enabled = off)")
	execute(t, conn, "INSERT INTO public.random SELECT md5(i::text)::uuid FROM generate_series(1, 100000) AS i")
	s := on(t, "random", Column{"id", "uuid"})
	for _, after := range []Key{nil, {"00000000-0000-0000-0000-000000000000"}} {
		sql, values := s.Boundary(Range{after, lastKey(t, conn, s)}, 1_000, 50_000)
		assertStreams(t, explain(t, conn, sql, values, StreamingPlans), "id")
	}
}
