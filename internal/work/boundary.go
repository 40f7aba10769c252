package work

import (
	"fmt"
	"strings"
)

// Boundary returns the query that finds where a piece of at most limit rows of a range ends. It answers one row, or none when the range
// holds no row:
//
//	key text[]           the last key of the piece; the range's own Until where the piece reaches the end
//	rows bigint          how many rows the piece has; with repeated keys perhaps more than limit
//	reached_end boolean  whether nothing of the range is left behind the piece
//
// Where the work has a scope, only its rows are counted and walked over. Keys that do not fit the cursor give no values, which the driver refuses.
func (s *Statements) Boundary(r Range, limit int) (sql string, values []any) {
	shape := shapeOf(len(s.target.Columns), r)
	values = shape.values(r)
	if values != nil {
		values = append(values, int64(limit))
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
	return fmt.Sprintf("SELECT ARRAY[%s] AS key %s ORDER BY %s LIMIT 1", s.list("%s::text"), s.walked(), s.list("%s DESC"))
}

// buildBoundary skips limit - 1 rows of the index and takes the next: of 50,000 rows that costs 2.7 ms, where numbering them with
// row_number() costs 19 and collecting them in an array 5 (PostgreSQL 15 and 18, index-only). Only where fewer rows are left, at the end of
// a range, they are counted in a second pass. Everything is ordered by the whole cursor and limited, so that no plan sorts the range.
func (s *Statements) buildBoundary(shape shape) string {
	limit := fmt.Sprintf("$%d::bigint", shape.parameters()+1)
	scan := s.walked(shape.predicate(s.target.Columns, ownAlias))
	order := "ORDER BY " + s.list("%s")

	var edgeKeys, found, end, equals []string
	for i, column := range s.target.Columns {
		edgeKeys = append(edgeKeys, fmt.Sprintf("%s AS k%d", qualified(ownAlias, column), i+1))
		found = append(found, fmt.Sprintf("edge.k%d::text", i+1))
		end = append(end, fmt.Sprintf("$%d::text", shape.until(i)))
		equals = append(equals, fmt.Sprintf("edge.k%d = %s", i+1, value(shape.until(i), column)))
	}
	rows := limit
	if s.target.Repeated {
		// Rows of equal keys stay together, so the piece may be longer than asked.
		rows = fmt.Sprintf("(SELECT count(*) FROM (SELECT 1 %s %s FETCH FIRST (%s) ROWS WITH TIES) AS piece)", scan, order, limit)
	}
	return fmt.Sprintf(`WITH edge AS MATERIALIZED (
    SELECT %s
    %s
    %s
    LIMIT 1 OFFSET %s - 1
)
SELECT
    CASE WHEN %s THEN ARRAY[%s] ELSE ARRAY[%s] END AS key,
    %s AS rows,
    %s AS reached_end
FROM edge
UNION ALL
SELECT ARRAY[%s], count(*), true
FROM (
    SELECT 1
    %s
        AND NOT EXISTS (SELECT FROM edge)
    %s
    LIMIT %s
) AS piece
HAVING count(*) > 0`,
		strings.Join(edgeKeys, ", "), scan, order, limit,
		strings.Join(equals, " AND "), strings.Join(end, ", "), strings.Join(found, ", "), rows, strings.Join(equals, " AND "),
		strings.Join(end, ", "), scan, order, limit)
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
