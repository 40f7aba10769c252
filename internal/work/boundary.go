package work

import (
	"fmt"
	"strings"
)

// Boundary returns the query that cuts the next total rows of a range into pieces of limit rows, the last perhaps smaller. It answers a row
// for each, in order, and stops where fewer rows are left than the next piece should have; only where the very first is such a one, it is answered
// too. No row at all: the range holds none.
//
//	piece bigint         1, 2, 3 …
//	key text[]           the last key of the piece; the range's own Until where the piece reaches the end
//	rows bigint          how many rows the piece has; with repeated keys perhaps more than limit
//	reached_end boolean  whether nothing of the range is left behind the piece
//
// Where the work has a scope, only its rows are counted and walked over. Keys that do not fit the cursor give no values, which the driver refuses.
func (s *Statements) Boundary(r Range, limit, total int) (sql string, values []any) {
	shape := s.shapeOf(r)
	values = shape.values(r)
	if values != nil {
		values = append(values, int64(min(limit, total)), int64(total))
	}
	return s.bounds[shape.index()], values
}

// StreamingPlans is a statement that makes the boundary queries later in the transaction walk the index, whatever PostgreSQL knows about the
// table. Without statistics (a table never analyzed, with a random key) it expects so few rows that it reads and sorts the whole rest
// of the table for every job: 500 ms a million rows. The settings end with the transaction; set them behind the work.
const StreamingPlans = `SELECT
    set_config('enable_sort', 'off', true),
    set_config('enable_incremental_sort', 'off', true),
    set_config('enable_seqscan', 'off', true),
    set_config('enable_bitmapscan', 'off', true),
    set_config('plan_cache_mode', 'force_generic_plan', true)`

// LastKey returns the query for the greatest key of the work's scope: one row with key text[], or none when no row is in it.
func (s *Statements) LastKey() string { return s.lastKey }

func (s *Statements) buildLastKey() string {
	return s.label + fmt.Sprintf("SELECT ARRAY[%s] AS key %s ORDER BY %s LIMIT 1", s.list("%s::text"), s.walked(), s.list("%s DESC"))
}

// buildBoundary skips all rows of a piece but its last, which it takes, and goes on behind it: of 50,000 rows that costs 2.7 ms, whether they are one
// piece or fifty, where numbering them with row_number() costs 19 and collecting them in an array 5 (PostgreSQL 15 and 18, index-only). Only where a
// range holds less than one piece, its rows are counted in a second pass. Everything is ordered by the whole cursor and limited, so that no plan sorts
// the range.
func (s *Statements) buildBoundary(shape shape) string {
	var (
		columns   = s.target.Columns
		limit     = fmt.Sprintf("$%d::bigint", shape.parameters()+1)
		total     = fmt.Sprintf("$%d::bigint", shape.parameters()+2)
		first     = s.walked(shape.predicate(columns, ownAlias))
		next      = s.walked(shape.between(columns, ownAlias, func(i int) string { return fmt.Sprintf("edge.k%d", i+1) }))
		order     = "ORDER BY " + s.list("%s")
		nextLimit = fmt.Sprintf("least(%s, %s - edge.walked)", limit, total)

		edgeKeys, nextKeys, found, end, equals []string
	)
	for i, column := range columns {
		edgeKeys = append(edgeKeys, fmt.Sprintf("%s AS k%d", qualified(ownAlias, column), i+1))
		nextKeys = append(nextKeys, fmt.Sprintf("next.k%d", i+1))
		found = append(found, fmt.Sprintf("edge.k%d::text", i+1))
		end = append(end, fmt.Sprintf("$%d::text", shape.until(i)))
		equals = append(equals, fmt.Sprintf("edge.k%d = %s", i+1, value(shape.until(i), column)))
	}
	count := func(_, limit string) string { return "SELECT " + limit + " AS rows" }
	if s.target.Repeated {
		// Rows of equal keys stay together, so a piece may be longer than asked.
		count = func(scan, limit string) string {
			return fmt.Sprintf("SELECT count(*) AS rows FROM (SELECT 1 %s %s FETCH FIRST (%s) ROWS WITH TIES) AS piece", scan, order, limit)
		}
	}
	return strings.NewReplacer(
		"{first}", first, "{next}", next, "{order}", order, "{limit}", limit, "{total}", total, "{nextLimit}", nextLimit,
		"{edgeKeys}", strings.Join(edgeKeys, ", "), "{nextKeys}", strings.Join(nextKeys, ", "),
		"{found}", strings.Join(found, ", "), "{end}", strings.Join(end, ", "), "{isEnd}", strings.Join(equals, " AND "),
		"{firstCount}", count(first, limit), "{nextCount}", count(next, nextLimit),
	).Replace(s.label + `WITH RECURSIVE edge AS (
    SELECT 1::bigint AS piece, start.*, counted.rows, counted.rows AS walked
    FROM (
        SELECT {edgeKeys}
        {first}
        {order}
        LIMIT 1 OFFSET {limit} - 1
    ) AS start
    CROSS JOIN LATERAL ({firstCount}) AS counted
    UNION ALL
    SELECT edge.piece + 1, {nextKeys}, counted.rows, edge.walked + counted.rows
    FROM edge
    CROSS JOIN LATERAL (
        SELECT {edgeKeys}
        {next}
        {order}
        LIMIT 1 OFFSET {nextLimit} - 1
    ) AS next
    CROSS JOIN LATERAL ({nextCount}) AS counted
    WHERE edge.walked < {total}
)
SELECT
    edge.piece,
    CASE WHEN {isEnd} THEN ARRAY[{end}] ELSE ARRAY[{found}] END AS key,
    edge.rows,
    {isEnd} AS reached_end
FROM edge
UNION ALL
SELECT 1, ARRAY[{end}], count(*), true
FROM (
    SELECT 1
    {first}
        AND NOT EXISTS (SELECT FROM edge)
    {order}
    LIMIT {limit}
) AS piece
HAVING count(*) > 0`)
}

// walked is the FROM and WHERE of a walk over the rows that meet the conditions and are in the work's scope.
func (s *Statements) walked(conditions ...string) string {
	if s.work.Scope != "" {
		conditions = append(conditions, "("+s.work.Scope+")")
	}
	if conditions == nil {
		return "FROM " + s.from
	}
	return "FROM " + s.from + " WHERE " + strings.Join(conditions, " AND ")
}

// list writes each column of the cursor, qualified, in the format, separated by commas.
func (s *Statements) list(format string) string {
	items := make([]string, len(s.target.Columns))
	for i, column := range s.target.Columns {
		items[i] = fmt.Sprintf(format, qualified(ownAlias, column))
	}
	return strings.Join(items, ", ")
}
