package work

import (
	"fmt"
	"strings"
)

// Places returns a query for keys at shares of the range up to until: 0.5 is the middle. It answers one row with key text[] for each share,
// in their order, or none when the pages that it read hold no row of the range. It reads percent of the table's pages, chosen at random but
// always the same, and so costs the same on any large table; of fewer than 100 percent the places are approximate.
func (s *Statements) Places(until Key, percent float64, shares []float64) (sql string, values []any) {
	shape := shape{columns: len(s.target.Columns), first: true}
	values = append(shape.values(Range{Until: until}), percent, shares)
	var keys, found []string
	for i, column := range s.target.Columns {
		keys = append(keys, fmt.Sprintf("%s AS k%d", qualified(ownAlias, column), i+1))
		found = append(found, fmt.Sprintf("sampled.k%d::text", i+1))
	}
	return fmt.Sprintf(`WITH sampled AS MATERIALIZED (
    SELECT %s, row_number() OVER (ORDER BY %s) AS place, count(*) OVER () AS places
    FROM %s TABLESAMPLE SYSTEM ($%d::real) REPEATABLE (0)
    WHERE %s
)
SELECT ARRAY[%s] AS key
FROM unnest($%d::double precision[]) WITH ORDINALITY AS wanted (share, number)
JOIN sampled ON sampled.place = 1 + floor(wanted.share * (sampled.places - 1))
ORDER BY wanted.number`,
		strings.Join(keys, ", "), s.list("%s"), s.from, shape.parameters()+1, shape.predicate(s.target.Columns, ownAlias),
		strings.Join(found, ", "), shape.parameters()+2), values
}

// Tail returns a query for the key behind which the last rows of the range up to until stand: one row with key text[], or none when the
// range has no more rows than that. Of equal keys, those behind the key are fewer.
func (s *Statements) Tail(until Key, rows int) (sql string, values []any) {
	shape := shape{columns: len(s.target.Columns), first: true}
	values = append(shape.values(Range{Until: until}), int64(rows))
	return fmt.Sprintf("SELECT ARRAY[%s] AS key FROM %s WHERE %s ORDER BY %s LIMIT 1 OFFSET $%d::bigint",
		s.list("%s::text"), s.from, shape.predicate(s.target.Columns, ownAlias), s.list("%s DESC"), shape.parameters()+1), values
}
