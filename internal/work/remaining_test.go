package work

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// converting is a work on public.t that says in line 4 what remains.
func converting(remaining string) string {
	return file("UPDATE public.t AS x SET a = a + 1 WHERE @batch(x)", "-- remaining: "+remaining)
}

func TestWhatRemainsIsOnePredicate(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "a IS NULL OR (b)", parsed(t, converting("a IS NULL OR (b)")).Remaining)
	for remaining, want := range map[string]string{
		"WHERE a IS NULL":  "the remaining begins with WHERE; leave that word out",
		"a = 1;":           "the remaining holds a semicolon; it is one predicate, so join two by AND",
		"a = 1 -- for now": `the remaining holds a comment; put it below "-- +bbm Work"`,
		"@batch":           "the remaining holds @batch, but what remains is judged without the arguments; write a constant (",
		"a = @domain":      "the remaining holds @domain, but",
		"a = $1":           "the remaining holds $1, but",
		"a = 1) OR (true":  "the remaining has a ) that closes nothing; balance its parentheses",
		"(a = 1":           "the remaining lacks a ) at its end",
		"t.a IS NULL":      "the remaining writes t.a; name columns without the table, as in a",
	} {
		_, err := Parse("x", []byte(converting(remaining)))
		if assert.Error(t, err, remaining) {
			assert.Contains(t, err.Error(), "x:4: "+want, remaining)
		}
	}
	w := goWork()
	w.Remaining = "a) OR (b"
	_, err := NewRegistry(w)
	assert.ErrorContains(t, err, `work "anonymise", written in Go: the remaining has a ) that closes nothing`)
}

func TestTheChecksumCoversWhatRemains(t *testing.T) {
	t.Parallel()
	sum := func(remaining string) string { return parsed(t, converting(remaining)).Checksum() }
	assert.Equal(t, sum("a IS NULL"), sum("a   IS\tNULL  "))
	assert.NotEqual(t, sum("a IS NULL"), sum("a IS NOT NULL"))
	assert.NotEqual(t, sum("a IS NULL"), parsed(t, scoped("a IS NULL")).Checksum())
}

func TestEnqueueRefusesAPredicateThatTheServerRefuses(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	execute(t, conn, `CREATE TABLE public.t (id bigint PRIMARY KEY, a int, b boolean)`)
	execute(t, conn, `CREATE TABLE public.other (id bigint PRIMARY KEY, a int)`)
	for remaining, want := range map[string]string{
		"a":                         "argument of WHERE must be type boolean, not type integer",
		"c IS NULL":                 `column "c" does not exist`,
		"count(*) > 1":              "aggregate functions are not allowed in WHERE",
		"row_number() OVER () > 1":  "window functions are not allowed in WHERE",
		"is_old(a)":                 "function is_old(integer) does not exist",
		"a IN (SELECT x FROM nope)": `relation "nope" does not exist`,
		"a = ":                      `syntax error at or near ")"`,
	} {
		_, err := checked(t, conn, parsed(t, converting(remaining)), nil)
		var refused *DefinitionError
		if assert.ErrorAs(t, err, &refused, remaining) {
			assert.Contains(t, err.Error(), `work "x":4: remaining: `+want, remaining)
		}
	}
	for _, remaining := range []string{"a IS NULL", "b", "NULL::boolean", "a IN (SELECT a FROM public.other)"} {
		_, err := checked(t, conn, parsed(t, converting(remaining)), nil)
		assert.NoError(t, err, remaining)
	}

	const joined = "UPDATE public.t AS x SET a = 1 FROM public.other AS o WHERE o.id = x.id AND "
	_, err := checked(t, conn, parsed(t, file(joined+"@batch(x)", "-- remaining: a IS NULL")), nil)
	assert.NoError(t, err, "the columns are those of the table of @batch")
	_, err = checked(t, conn, parsed(t, file("UPDATE public.t AS x SET a = 1 FROM (SELECT id FROM public.t) AS o WHERE o.id = x.id AND @batch(o)", "-- remaining: a IS NULL")), nil)
	assert.ErrorContains(t, err, `work "x":4: remaining: cannot cast type record to public.t`)
	assert.ErrorContains(t, err, "so write @batch(alias) with the name of the table itself")
}

func TestAPassChangesOnlyTheRowsThatRemain(t *testing.T) {
	t.Parallel()
	for name, statement := range map[string]string{
		"an alias":   "UPDATE public.t AS x SET a = coalesce(x.a, 0) + 1, n = x.n + 1 FROM public.other AS o WHERE o.id = x.id AND @batch(x)",
		"no alias":   "UPDATE public.t SET a = coalesce(a, 0) + 1, n = n + 1 WHERE @batch",
		"a move":     "WITH gone AS (DELETE FROM public.t AS x WHERE @batch(x) RETURNING x.id, x.n) INSERT INTO public.t (id, a, n) SELECT id, 1, n + 1 FROM gone",
		"its own":    "UPDATE public.t AS x SET a = 1, n = n + 1 WHERE a IS NULL AND @batch(x)",
		"odd quotes": `UPDATE public.t AS "X ""y" SET a = 1, n = n + 1 WHERE @batch("X ""y")`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t)
			execute(t, conn, `CREATE TABLE public.t (id bigint PRIMARY KEY, a int, n int NOT NULL DEFAULT 0)`)
			execute(t, conn, `CREATE TABLE public.other (id bigint PRIMARY KEY, a int)`)
			execute(t, conn, `INSERT INTO public.t SELECT i, CASE WHEN i % 10 > 0 THEN i END FROM generate_series(1, 100) AS i`)
			execute(t, conn, `INSERT INTO public.other SELECT i, 1 FROM generate_series(1, 100) AS i`)
			s := NewStatements(parsed(t, file(statement, "-- remaining: a IS NULL")), Target{Schema: "public", Table: "t", Columns: []Column{{"id", "bigint"}}})
			if name == "a move" {
				execute(t, conn, `SET session_replication_role = replica; ALTER TABLE public.t DROP CONSTRAINT t_pkey`)
			}
			sql, values, err := s.ForPasses().Work(Range{Key{"10"}, Key{"50"}}, nil)
			require.NoError(t, err)
			execute(t, conn, sql, values...)
			var changed []int64
			require.NoError(t, conn.QueryRow(t.Context(), `SELECT array_agg(id ORDER BY id) FROM public.t WHERE n <> 0`).Scan(&changed))
			assert.Equal(t, []int64{20, 30, 40, 50}, changed)
		})
	}
}

// onRemaining builds the statements of a work on one of the big tables, every third row of which remains.
func onRemaining(table string, repeated bool, columns ...Column) *Statements {
	w := &Work{Name: "count", Table: "public." + table, Remaining: "id::text LIKE '%5'"}
	return NewStatements(w, Target{Schema: "public", Table: table, Columns: columns, Repeated: repeated})
}

func TestALookForWhatRemainsStreamsTheIndex(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	execute(t, conn, bigTables)
	execute(t, conn, "VACUUM ANALYZE")
	tenant, id := Column{"tenant", "integer"}, Column{"id", "bigint"}
	for name, c := range map[string]struct {
		s *Statements
		r Range
	}{
		"the beginning":              {onRemaining("plain", false, id), Range{nil, Key{"300000"}}},
		"the middle":                 {onRemaining("plain", false, id), Range{Key{"150000"}, Key{"300000"}}},
		"uuid":                       {onRemaining("random", false, Column{"id", "uuid"}), Range{Key{"80000000-0000-0000-0000-000000000000"}, Key{"ffffffff-ffff-ffff-ffff-ffffffffffff"}}},
		"repeated keys":              {onRemaining("plain", true, id), Range{Key{"150000"}, Key{"300000"}}},
		"composite, first":           {onRemaining("comp", false, tenant, id), Range{nil, Key{"1000", "300000"}}},
		"composite, across tenants":  {onRemaining("comp", false, tenant, id), Range{Key{"300", "30000"}, Key{"1000", "300000"}}},
		"composite, the big tenant":  {onRemaining("comp", false, tenant, id), Range{Key{"500", "150000"}, Key{"500", "250000"}}},
		"partitions, the big tenant": {onRemaining("ranges", false, tenant, id), Range{Key{"500", "150000"}, Key{"500", "250000"}}},
		"hashes, across tenants":     {onRemaining("hashes", false, tenant, id), Range{Key{"300", "30000"}, Key{"1000", "300000"}}},
	} {
		t.Run(name, func(t *testing.T) {
			sql, values := c.s.Piece(c.r, 1000, []string{"{7}"})
			typed := make([]string, len(values))
			for i, value := range values {
				typed[i] = fmt.Sprintf("'%v'", value)
			}
			typed[len(typed)-1] = "'{}'"
			// As a run has it: the generic plan.
			execute(t, conn, "PREPARE look AS "+sql)
			p := explain(t, conn, "EXECUTE look ("+strings.Join(typed, ", ")+")", nil, StreamingPlans)
			execute(t, conn, "DEALLOCATE look")
			for _, node := range p.nodes() {
				if node.Relation != "" {
					assert.Contains(t, node.NodeType, "Index")
					assert.NotEmpty(t, node.IndexCond)
					assert.Empty(t, node.Filter)
				}
			}
			assert.LessOrEqual(t, p.pages(), 1100, "a page a row at most, of 300,000 rows")
		})
	}
}

func TestALookTellsWhereThePieceEndsAndWhatRemainsInIt(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	execute(t, conn, `CREATE TABLE public.t (tenant int, id text, n int, PRIMARY KEY (tenant, id))`)
	execute(t, conn, `INSERT INTO public.t SELECT 1 + i / 10, 'k"' || to_char(i, 'FM000'), CASE WHEN i % 3 > 0 THEN i END FROM generate_series(0, 29) AS i`)
	w := &Work{Name: "count", Table: "public.t", Remaining: "n IS NULL"}
	s := NewStatements(w, Target{Schema: "public", Table: "t", Columns: []Column{{"tenant", "integer"}, {"id", "text"}}})
	until := Key{"3", `k"029`}
	look := func(after Key, limit int, leftOut ...string) Piece {
		found, err := s.LookThrough(t.Context(), conn, Range{after, until}, limit, leftOut)
		require.NoError(t, err)
		return found
	}
	assert.Equal(t, Piece{Key{"1", `k"003`}, 4, 2, 0, Key{"1", `k"003`}, []Key{{"1", `k"000`}, {"1", `k"003`}}}, look(nil, 4))
	assert.Equal(t, Piece{Key{"2", `k"010`}, 10, 3, 0, Key{"1", `k"009`}, []Key{{"1", `k"003`}, {"1", `k"006`}, {"1", `k"009`}}}, look(Key{"1", `k"000`}, 10))
	assert.Equal(t, Piece{until, 2, 0, 0, nil, []Key{}}, look(Key{"3", `k"027`}, 10))
	assert.Equal(t, Piece{until, 2, 0, 0, nil, []Key{}}, look(Key{"3", `k"027`}, 2))
	assert.Equal(t, Piece{until, 0, 0, 0, nil, []Key{}}, look(until, 10))
	var leftOut string // as it is read from text[]
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT $1::text[]::text", []string{"1", `k"003`}).Scan(&leftOut))
	assert.Equal(t, Piece{Key{"1", `k"003`}, 4, 1, 1, Key{"1", `k"000`}, []Key{{"1", `k"000`}}}, look(nil, 4, leftOut))
	var notRemaining string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT $1::text[]::text", []string{"1", `k"001`}).Scan(&notRemaining))
	assert.Zero(t, look(nil, 4, notRemaining).LeftOut, "a row that is done is not left out, whatever the list says")
	whole := look(nil, 100)
	assert.Equal(t, []any{until, int64(30), int64(10), 5}, []any{whole.Until, whole.Rows, whole.Remaining, len(whole.Keys)})
	assert.Equal(t, `with the keys (1, k"000); (1, k"003); (1, k"006); (1, k"009); (2, k"012); …`, DescribeKeys(whole.Keys, whole.Remaining))
	assert.Equal(t, "with the key 7", DescribeKeys([]Key{{"7"}}, 1))

	for key, remains := range map[string]bool{`k"003`: true, `k"001`: false, "k": false} {
		sql, values := s.RowRemains(Key{"1", key})
		var found bool
		require.NoError(t, conn.QueryRow(t.Context(), sql, values...).Scan(&found))
		assert.Equal(t, remains, found, key)
	}

	var last Key
	require.NoError(t, conn.QueryRow(t.Context(), s.LastKeyOfAll()).Scan((*[]string)(&last)))
	assert.Equal(t, until, last)
}
