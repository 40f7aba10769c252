package work

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// largeTable is how many rows make a full scan for each sub-batch intolerable: reading 100,000 takes about 10 ms, as long as a sub-batch of
// 1,000 should take altogether, and the time grows with the square of the table.
const largeTable = 100_000

// explainPrefix asks for the plan alone; VERBOSE tells schemas and qualifies columns.
const explainPrefix = "EXPLAIN (FORMAT JSON, VERBOSE) "

// plansOfARun lets the tables be read as a run reads them, after a plan that shows what an index
// can do.
const plansOfARun = "SET LOCAL enable_seqscan TO DEFAULT"

// checkPlan judges how the statement reads the target for a range of it, and what it reads of other
// tables. An empty table has no range, and passes. scoped are the indexes of the work's scope, if
// it has one.
func (c check) checkPlan(ctx context.Context, scoped []string) (warnings []Warning, err error) {
	r, err := c.firstRange(ctx)
	if err != nil || r.Until == nil {
		return nil, err
	}
	sql, values, err := c.statements.Work(r, c.arguments)
	if err != nil {
		return nil, err
	}
	plans, err := c.plan(ctx, sql, values)
	if err != nil {
		return nil, err
	}
	parts, err := c.parts(ctx)
	if err != nil {
		return nil, err
	}
	judged := judgement{parts: parts, column: c.target.Columns[0].Name, scoped: scoped}
	for _, plan := range plans {
		judged.judge(plan)
	}
	if warnings, err = c.verdict(judged); err != nil {
		return nil, err
	}
	if _, err := c.tx.Exec(ctx, plansOfARun); err != nil {
		return nil, fmt.Errorf("plan as a run does: %w", err)
	}
	if plans, err = c.plan(ctx, sql, values); err != nil {
		return nil, err
	}
	more, err := c.checkReads(ctx, plans)
	return append(warnings, more...), err
}

// plan asks for the statement's plan.
func (c check) plan(ctx context.Context, sql string, values []any) ([]PlanNode, error) {
	var text []byte
	err := c.tx.QueryRow(ctx, explainPrefix+sql, append([]any{pgx.QueryExecModeDescribeExec}, values...)...).Scan(&text)
	if err != nil {
		return nil, c.blame(err, sql, len(explainPrefix), "plan the statement")
	}
	return ReadPlans(text)
}

// checkReads refuses what reads a large table again and again, whatever its own table's plan is
// like: the tables count as they are now.
func (c check) checkReads(ctx context.Context, plans []PlanNode) (warnings []Warning, err error) {
	reads, err := FindReads(ctx, c.tx, plans...)
	if err != nil {
		return nil, err
	}
	subBatches := (c.target.Rows + DefaultSubBatchSize - 1) / DefaultSubBatchSize
	for _, r := range reads {
		if r.isIntolerable() {
			return nil, invalid(dbgen.BBMMigrationFailureCodeInvalidWork, "%s: %s", c.work.file(), r.repeated())
		}
		if w := r.Warning(subBatches); w != nil && (r.isRepeated() || !r.isOf(c.target)) {
			warnings = append(warnings, *w)
		}
	}
	return warnings, nil
}

// firstRange is one sub-batch near the start of the table, with a lower bound where there are rows enough.
func (c check) firstRange(ctx context.Context) (Range, error) {
	var last, first, next Key
	var piece, rows int64
	var reachedEnd bool
	err := c.tx.QueryRow(ctx, c.statements.LastKey(), pgx.QueryExecModeDescribeExec).Scan((*[]string)(&last))
	if errors.Is(err, pgx.ErrNoRows) {
		return Range{}, nil
	}
	for _, step := range []struct {
		key   *Key
		limit int
	}{{&first, 1}, {&next, DefaultSubBatchSize}} {
		if err != nil || reachedEnd {
			break
		}
		sql, values := c.statements.Boundary(Range{first, last}, step.limit, step.limit)
		err = c.tx.QueryRow(ctx, sql, append([]any{pgx.QueryExecModeDescribeExec}, values...)...).
			Scan(&piece, (*[]string)(step.key), &rows, &reachedEnd)
	}
	switch fault := definitionFault(err); {
	case fault != nil:
		return Range{}, invalid(dbgen.BBMMigrationFailureCodeInvalidTable, "%s: %s", c.target.Name, plainMessage(fault))
	case err != nil:
		return Range{}, fmt.Errorf("read the first keys of %s: %w", c.target.Name, err)
	case next == nil:
		return Range{Until: last}, nil
	}
	return Range{first, next}, nil
}

// verdict turns what the plan has shown into an error or a warning.
func (c check) verdict(judged judgement) (warnings []Warning, err error) {
	switch {
	case judged.byIndex && judged.scoped != nil && !judged.byScope && c.target.Rows >= largeTable:
		// On a small table another index may be as good, whatever the statement says.
		return []Warning{{Code: "scope_unused", Message: fmt.Sprintf("%s: the statement does not read by the index of the scope, %s; a range covers all of its rows, "+
			"also those outside of the scope, so repeat the scope in the statement", c.work.file(), WriteName(judged.scoped[0]))}}, nil
	case judged.byIndex || judged.readers == 0 && judged.empty:
		return nil, nil
	case judged.readers == 0:
		return nil, invalid(dbgen.BBMMigrationFailureCodeInvalidWork,
			"%s: the statement does not read %s, the table of its header; put @batch to that table, or correct the header",
			c.work.file(), c.target.Name)
	}
	problem := fmt.Sprintf("%s: the statement reads all of %s for each sub-batch, since no index finds its range by %s; "+
		"put @batch(alias) to the reading of that table, where nothing hides its columns",
		c.work.file(), c.target.Name, WriteName(judged.column))
	if c.target.Rows >= largeTable {
		return nil, invalid(dbgen.BBMMigrationFailureCodeInvalidWork, "%s", problem)
	}
	return []Warning{{Code: "full_scan", Message: fmt.Sprintf("%s; with %d rows or more it is refused", problem, largeTable)}}, nil
}

type part struct{ schema, table string }

// parts are the names by which a plan can call the target.
func (c check) parts(ctx context.Context) (map[part]bool, error) {
	rows, err := c.queries.TargetListParts(ctx, c.tx, c.target.Oid)
	if err != nil {
		return nil, fmt.Errorf("list the partitions of %s: %w", c.target.Name, err)
	}
	parts := make(map[part]bool, len(rows))
	for _, row := range rows {
		parts[part{row.SchemaName, row.TableName}] = true
	}
	return parts, nil
}

// judgement is what a plan shows about the target, which is any of the parts.
type judgement struct {
	parts  map[part]bool
	column string // the cursor's first
	scoped []string

	readers int  // nodes that read the target
	byIndex bool // one of them by an index condition on the column
	byScope bool // one of them, so, by one of the scoped indexes
	empty   bool // some branch is known to have no row, so that it is not planned
}

func (j *judgement) judge(node PlanNode) {
	if node.NodeType == "Result" && node.OneTimeFilter == "false" {
		j.empty = true
	}
	if node.NodeType != "ModifyTable" && j.parts[part{node.Schema, node.Table}] {
		j.readers++
		j.byIndex = j.isBounded(node, node.Alias) || j.byIndex
	}
	for _, child := range node.Plans {
		j.judge(child)
	}
}

// isBounded looks for the index condition in the node, or for a bitmap scan in the nodes beneath.
func (j *judgement) isBounded(node PlanNode, alias string) bool {
	mentioned := mentions(node.IndexCond, alias, j.column)
	j.byScope = j.byScope || mentioned && slices.Contains(j.scoped, node.Index)
	return mentioned || slices.ContainsFunc(node.Plans, func(child PlanNode) bool {
		return strings.HasPrefix(child.NodeType, "Bitmap") && child.NodeType != "BitmapOr" && j.isBounded(child, alias)
	})
}

// mentions reports whether a condition, as EXPLAIN writes it, names the alias's column. The server quotes reserved words too, so each
// form of a name counts.
func mentions(condition, alias, column string) bool {
	for _, a := range []string{alias, pgx.Identifier{alias}.Sanitize()} {
		for _, c := range []string{column, pgx.Identifier{column}.Sanitize()} {
			name := a + "." + c
			for rest := condition; ; {
				at := strings.Index(rest, name)
				if at < 0 {
					break
				}
				before, _ := utf8.DecodeLastRuneInString(rest[:at])
				after, _ := utf8.DecodeRuneInString(rest[at+len(name):])
				if !inName(before) && !inName(after) {
					return true
				}
				rest = rest[at+len(name):]
			}
		}
	}
	return false
}

// inName reports whether a character would make a name a longer one.
func inName(r rune) bool {
	return r == '_' || r == '$' || r == '"' || r == '.' || r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r))
}
