package work

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// KeysShown is how many keys of rows that remain are told: enough to look at, few enough for a message.
const KeysShown = 5

// Piece is what a look through a part of the range has found.
type Piece struct {
	Until         Key   // where the piece ends; the range's own Until where nothing is left behind it
	Rows          int64 // that it holds
	Remaining     int64 // of them, still to be changed
	LeftOut       int64 // of them, which would be too, but are left out on purpose
	LastRemaining Key   // the last of these; nil for none
	Keys          []Key // the first few of these
}

// IsLast reports whether nothing of the range is left behind the piece.
func (p Piece) IsLast(r Range) bool { return slices.Equal(p.Until, r.Until) }

// LookThrough reads the next rows of a range, limit at most (with repeated keys perhaps more), and tells which of them the work has still to change. Rows
// that are left out on purpose are given by their keys, each the text of a text[] as the server writes it.
// The transaction has [StreamingPlans] and the work's session; nothing is changed or locked. An error that blames the predicate is a
// [*DefinitionError]. The work has a predicate of what remains.
func (s *Statements) LookThrough(ctx context.Context, db dbgen.DBTX, r Range, limit int, leftOut []string) (Piece, error) {
	sql, values := s.Piece(r, limit, leftOut)
	found := Piece{Until: r.Until}
	var until Key
	err := db.QueryRow(ctx, sql, values...).Scan(&until, &found.Rows, &found.Remaining, &found.LeftOut, &found.LastRemaining, &found.Keys)
	if fault := definitionFault(err); fault != nil && fault.Code != cachedPlanChanged {
		return Piece{}, invalid(dbgen.BBMMigrationFailureCodeInvalidWork, "%s: remaining: %s", s.work.remainingFile(), plainMessage(fault))
	}
	if err != nil {
		return Piece{}, fmt.Errorf("look for rows that remain: %w", err)
	}
	if found.Rows >= int64(limit) {
		found.Until = until
	}
	return found, nil
}

// DescribeKeys tells the first of so many keys: "with the keys 7; 12; …", those of a composite cursor as (1, 7).
func DescribeKeys(keys []Key, of int64) string {
	var texts []string
	for _, key := range keys[:min(len(keys), KeysShown)] {
		text := strings.Join(key, ", ")
		if len(key) > 1 {
			text = "(" + text + ")"
		}
		texts = append(texts, text)
	}
	if int64(len(texts)) < of {
		texts = append(texts, "…")
	}
	if len(texts) == 1 {
		return "with the key " + texts[0]
	}
	return "with the keys " + strings.Join(texts, "; ")
}

// cachedPlanChanged is the SQLSTATE of a prepared statement whose table was altered; the driver prepares it anew.
const cachedPlanChanged = "0A000"

// Piece is the statement of [Statements.LookThrough].
func (s *Statements) Piece(r Range, limit int, leftOut []string) (sql string, values []any) {
	shape := shapeOf(len(s.target.Columns), r)
	values = shape.values(r)
	if values != nil {
		values = append(values, int64(limit), append([]string{}, leftOut...))
	}
	return s.pieces[shape.index()], values
}

// RemainingStatement is the text of the statement that proves the work done, as it reads the first piece.
func (s *Statements) RemainingStatement() string { return s.pieces[0] }

// LastKeyOfAll returns the query for the greatest key of the table, whatever the work's scope: one row with key text[], or none.
func (s *Statements) LastKeyOfAll() string { return s.passes.lastKey }

// EstimatedRows is how many rows the whole table had when it was looked up.
func (s *Statements) EstimatedRows() int64 { return s.target.Rows }

// ForPasses returns the statements for jobs that go again over ranges in which rows remain: their @batch stands for those rows alone, so that a row
// which is done is not changed a second time, whatever the statement says; and their boundaries count all rows, also those outside of the scope.
func (s *Statements) ForPasses() *Statements { return s.passes }

// prove adds what a work with a predicate of what remains needs.
func (s *Statements) prove() {
	for _, shape := range allShapes(len(s.target.Columns)) {
		s.pieces = append(s.pieces, s.buildPiece(shape))
	}
	ofAll := *s.work
	ofAll.Scope, ofAll.Remaining = "", ""
	s.passes = newStatements(&ofAll, s.target, s.work.Remaining, false)
}

// RowRemains is the query for whether the row of a key has still to be changed; false where there
// is none. The work has a predicate of what remains.
func (s *Statements) RowRemains(key Key) (sql string, values []any) {
	row := shape{columns: len(s.target.Columns), single: true}
	return fmt.Sprintf("%sSELECT EXISTS (SELECT FROM %s WHERE %s AND (%s) IS TRUE)", s.label, s.from, row.predicate(s.target.Columns, ownAlias), s.work.Remaining),
		row.values(Range{Until: key})
}

// buildPiece walks the index once. What a row's predicate says is read beside its key, so that no
// plan can take another way for it: null where it does not hold, false where the row is left out.
func (s *Statements) buildPiece(shape shape) string {
	limit := fmt.Sprintf("$%d::bigint", shape.parameters()+1)
	most := "LIMIT " + limit
	if s.target.Repeated {
		most = "FETCH FIRST (" + limit + ") ROWS WITH TIES" // rows of equal keys stay together
	}
	var keys, names, texts, descending []string
	for i, column := range s.target.Columns {
		name := fmt.Sprintf("k%d", i+1)
		keys = append(keys, qualified(ownAlias, column)+" AS "+name)
		names = append(names, name)
		texts = append(texts, "r."+name+"::text")
		descending = append(descending, "r."+name+" DESC")
	}
	text, down := strings.Join(texts, ", "), strings.Join(descending, ", ")
	return s.label + fmt.Sprintf(`WITH piece AS MATERIALIZED (
    SELECT %[1]s, CASE WHEN (%[2]s) IS TRUE THEN ARRAY[%[12]s]::text <> ALL (%[13]s) END AS remains
    FROM %[3]s
    WHERE %[4]s
    ORDER BY %[5]s
    %[6]s
), remaining AS MATERIALIZED (
    SELECT %[7]s
    FROM piece
    WHERE remains
)
SELECT
    (SELECT ARRAY[%[8]s] FROM piece AS r ORDER BY %[9]s LIMIT 1) AS key,
    (SELECT count(*) FROM piece) AS rows,
    (SELECT count(*) FROM remaining) AS remaining,
    (SELECT count(*) FROM piece WHERE NOT remains) AS left_out,
    (SELECT ARRAY[%[8]s] FROM remaining AS r ORDER BY %[9]s LIMIT 1) AS last_remaining,
    (
        SELECT coalesce(jsonb_agg(first.key), '[]')
        FROM (SELECT jsonb_build_array(%[8]s) AS key FROM remaining AS r ORDER BY %[10]s LIMIT %[11]d) AS first
    ) AS keys`,
		strings.Join(keys, ", "), s.work.Remaining, s.from, shape.predicate(s.target.Columns, ownAlias), s.list("%s"), most,
		strings.Join(names, ", "), text, down, strings.ReplaceAll(down, " DESC", ""), KeysShown,
		s.list("%s::text"), fmt.Sprintf("$%d::text[]", shape.parameters()+2))
}

// batchOnly narrows a range predicate to the rows of which a condition holds. Columns of the condition are those of the target behind the alias,
// whatever other tables the statement reads: an inner query finds them first, and the cast refuses an alias that stands for anything else.
func (s *Statements) batchOnly(predicate, alias, condition string) string {
	if alias == "" {
		return fmt.Sprintf("(%s AND (%s))", predicate, condition)
	}
	return fmt.Sprintf("(%s AND (SELECT (%s) FROM (SELECT ((%s.*)::%s).*) AS own_row))",
		predicate, condition, pgx.Identifier{alias}.Sanitize(), pgx.Identifier{s.target.Schema, s.target.Table}.Sanitize())
}
