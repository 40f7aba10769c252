package work

import (
	"fmt"
	"strings"
)

// Places returns a query for keys at shares of the range up to until: 0.5 is the middle. It answers one row with key text[] for each share,
// in their order, or none when the pages that it read hold no row of the range, or of the work's scope where scoped. It reads percent of the
// table's pages, chosen at random but always the same, and so costs the same on any large table; of fewer than 100 percent the places are
// approximate.
func (s *Statements) Places(until Key, percent float64, shares []float64, scoped bool) (sql string, values []any) {
	shape := shape{columns: len(s.target.Columns), first: true}
	values = append(shape.values(Range{Until: until}), percent, shares)
	conditions := []string{shape.predicate(s.target.Columns, ownAlias)}
	if scoped && s.work.Scope != "" {
		conditions = append(conditions, "("+s.work.Scope+")")
	}
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
		strings.Join(keys, ", "), s.list("%s"), s.from, shape.parameters()+1, strings.Join(conditions, " AND "),
		strings.Join(found, ", "), shape.parameters()+2), values
}

// Tail returns a query for the key behind which the last rows of the work's scope up to until stand: one row with key text[], or none when there
// are no more rows than that. Of rows with equal keys fewer may stand behind it.
func (s *Statements) Tail(until Key, rows int) (sql string, values []any) {
	shape := shape{columns: len(s.target.Columns), first: true}
	values = append(shape.values(Range{Until: until}), int64(rows))
	return fmt.Sprintf("SELECT ARRAY[%s] AS key %s ORDER BY %s LIMIT 1 OFFSET $%d::bigint",
		s.list("%s::text"), s.walked(shape.predicate(s.target.Columns, ownAlias)), s.list("%s DESC"), shape.parameters()+1), values
}
