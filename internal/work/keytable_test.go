package work

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// keyTable is a table with a cursor of its own.
type keyTable struct {
	types     []string
	columns   []string // their definitions, where they are not just the types
	partition string
	order     string // DESC for an index that runs backwards
	repeated  bool
}

// The table and its columns have names that need quotes everywhere.
const oddSchema, oddTable = `Odd "Schema".x`, "T; --"

func odd(name string) string { return pgx.Identifier{oddSchema, name}.Sanitize() }

// target describes the table.
func (k keyTable) target() Target {
	target := Target{Schema: oddSchema, Table: oddTable, Repeated: k.repeated}
	for i, name := range k.types {
		target.Columns = append(target.Columns, Column{fmt.Sprintf("K %d", i+1), name})
	}
	return target
}

// create makes the table and its index, fills it with random rows and returns the work that counts each row's changes.
func (k keyTable) create(t *testing.T, conn *pgx.Conn, r *rand.Rand) *Statements {
	t.Helper()
	target := k.target()
	var definitions, indexed []string
	for i, column := range target.Columns {
		definition := column.Type
		if k.columns != nil {
			definition = k.columns[i]
		}
		definitions = append(definitions, qualified("", column)+" "+definition+" NOT NULL")
		indexed = append(indexed, qualified("", column)+" "+k.order)
	}
	unique := "UNIQUE"
	if k.repeated {
		unique = ""
	}
	execute(t, conn, "CREATE SCHEMA "+pgx.Identifier{oddSchema}.Sanitize())
	execute(t, conn, fmt.Sprintf("CREATE TABLE %s (%s, n int NOT NULL DEFAULT 0) %s", odd(oddTable), strings.Join(definitions, ", "), k.partition))
	execute(t, conn, fmt.Sprintf("CREATE %s INDEX ON %s (%s)", unique, odd(oddTable), strings.Join(indexed, ", ")))
	k.createPartitions(t, conn)
	k.fill(t, conn, r)

	w := &Work{Name: "count", Table: odd(oddTable)}
	var err error
	w.statement, err = compile(source{"count", "UPDATE " + odd(oddTable) + ` AS "A b" SET n = n + 1 WHERE @batch("A b")`, 1}, w, true)
	require.NoError(t, err)
	return NewStatements(w, target)
}

func (k keyTable) createPartitions(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	var bounds []string
	switch {
	case strings.Contains(k.partition, "HASH"):
		bounds = []string{"FOR VALUES WITH (MODULUS 2, REMAINDER 0)", "FOR VALUES WITH (MODULUS 2, REMAINDER 1)"}
	case strings.Contains(k.partition, "RANGE"):
		bounds = []string{"FOR VALUES FROM (MINVALUE) TO (0)", "DEFAULT"}
	}
	for i, bound := range bounds {
		execute(t, conn, fmt.Sprintf("CREATE TABLE %s PARTITION OF %s %s", odd(fmt.Sprint("part", i)), odd(oddTable), bound))
	}
}

// fill inserts some hundred rows. Leading columns have few values, so that ranges share them.
func (k keyTable) fill(t *testing.T, conn *pgx.Conn, r *rand.Rand) {
	t.Helper()
	var casts []string
	var values []any
	for i, name := range k.types {
		choice := texts[name](r)
		if i < len(k.types)-1 || k.repeated {
			choice = choice[:12]
		}
		column := make([]string, 600)
		for j := range column {
			column[j] = choice[r.IntN(len(choice))]
		}
		values = append(values, column)
		casts = append(casts, fmt.Sprintf("($%d::text[])[i]::%s", i+1, name))
	}
	execute(t, conn, fmt.Sprintf("INSERT INTO %s SELECT %s, 0 FROM generate_series(1, 600) AS i ON CONFLICT DO NOTHING",
		odd(oddTable), strings.Join(casts, ", ")), values...)
}

// check walks the table with several pairs of limits; afterwards each row was changed once by each walk.
func (k keyTable) check(t *testing.T, conn *pgx.Conn, r *rand.Rand) {
	t.Helper()
	s := k.create(t, conn, r)
	var total int64
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM "+s.from).Scan(&total))
	require.Positive(t, total)
	until := lastKey(t, conn, s)
	walks := [][]int{{1}, {7}, {10, 3}, {100, 33, 7}, {64, 8}, {int(total)}, {int(total) + 1, int(total) - 1}}
	for _, limits := range walks {
		require.Equal(t, total, walk(t, conn, s, Range{nil, until}, limits...), "limits %v", limits)
	}
	for _, limits := range [][2]int{{1, 5}, {7, 100}, {7, 7}, {33, 100}, {100, 33}, {50, int(total)}, {int(total) / 2, int(total) - 1}, {7, 2 * int(total)}} {
		checkPieces(t, conn, s, Range{nil, until}, limits[0], limits[1])
		if b, found := boundary(t, conn, s, Range{nil, until}, int(total)/3); found {
			checkPieces(t, conn, s, Range{b.key, until}, limits[0], limits[1])
			checkPieces(t, conn, s, Range{nil, b.key}, limits[0], limits[1])
		}
	}
	var wrong int64
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM "+s.from+" WHERE n <> $1", len(walks)).Scan(&wrong))
	assert.Zero(t, wrong, "rows that were not changed exactly once by each walk")
}
