package work

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// EstimateRows is how many rows a run will walk over: those of the table or, where the work has a scope, as many as the planner expects in it.
// It returns a [*DefinitionError] when the server refuses the scope.
func EstimateRows(ctx context.Context, db beginner, w *Work, t Target) (rows int64, err error) {
	if w.Scope == "" {
		return t.Rows, nil
	}
	err = inCheck(ctx, db, w, t, nil, func(c check) error {
		if err := c.checkSession(ctx); err != nil {
			return err
		}
		return c.streaming(ctx, func(c check) error {
			seen, err := c.planOfScope(ctx)
			rows = int64(seen.rows)
			return err
		})
	})
	return rows, err
}

// checkScope proves by the plan of a run's queries that the scope is the predicate of an index, however it is written, so that they walk over its
// rows alone. It returns the names of the indexes that serve: one, or one for each partition.
func (c check) checkScope(ctx context.Context) (indexes []string, warnings []Warning, err error) {
	if c.work.Scope == "" {
		return nil, nil, nil
	}
	err = c.streaming(ctx, func(c check) error {
		seen, err := c.planOfScope(ctx)
		switch {
		case err != nil:
			return err
		case seen.readers == 0 && c.target.Partitioned:
			warnings = []Warning{{Code: "empty_scope", Message: fmt.Sprintf("%s: no partition of %s can hold a row of the scope", c.work.scopeFile(), c.target.Name)}}
			return nil
		case seen.readers == 0:
			return invalid(dbgen.BBMMigrationFailureCodeInvalidWork,
				"%s: no row of %s can be in the scope, which is never true; correct it (= NULL is never true: write IS NULL)",
				c.work.scopeFile(), c.target.Name)
		case seen.rest != "":
			return c.unserved(ctx, seen)
		}
		indexes = seen.indexes
		return c.checkBoundary(ctx)
	})
	return indexes, warnings, err
}

// streaming gives f the settings with which a run looks for boundaries; they end with it.
func (c check) streaming(ctx context.Context, f func(check) error) (err error) {
	nested, err := c.tx.Begin(ctx)
	if err != nil {
		return fmt.Errorf("set a savepoint: %w", err)
	}
	defer func() { err = errors.Join(err, nested.Rollback(context.WithoutCancel(ctx))) }()
	c.tx = nested
	if _, err := c.tx.Exec(ctx, StreamingPlans); err != nil {
		return fmt.Errorf("set up the check of the scope: %w", err)
	}
	return f(c)
}

// planOfScope plans the query for the last key. It has no condition but the scope, so whatever condition the plan has is left of the scope.
func (c check) planOfScope(ctx context.Context) (scopePlan, error) {
	return c.planOfWalk(ctx, c.statements.LastKey(), nil, func(node PlanNode) string {
		for _, condition := range []string{node.IndexCond, node.Filter, node.OneTimeFilter} {
			if condition != "" && condition != "false" {
				return condition
			}
		}
		return ""
	})
}

// checkBoundary looks at the plan of the first boundary of a run. Its range is a condition on the index, so a filter is left of the scope.
func (c check) checkBoundary(ctx context.Context) error {
	var last Key
	err := c.tx.QueryRow(ctx, c.statements.LastKey(), pgx.QueryExecModeDescribeExec).Scan((*[]string)(&last))
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return c.blameScope(err, "read the last key of")
	}
	sql, values := c.statements.Boundary(Range{Until: last}, DefaultSubBatchSize, DefaultBatchSize)
	seen, err := c.planOfWalk(ctx, sql, values, func(node PlanNode) string {
		if node.Table == "" {
			return "" // the query's own
		}
		return node.Filter
	})
	if err == nil && seen.rest != "" {
		err = c.unserved(ctx, seen)
	}
	return err
}

// scopePlan is what the plan of a walk shows.
type scopePlan struct {
	parts   map[part]bool
	readers int      // nodes that read the target
	rows    float64  // that they are expected to find
	indexes []string // by which they read
	rest    string   // what the plan leaves to be done for the scope, "" for nothing
	unfit   string   // the index that leaves it; "" where it is none
}

// planOfWalk plans a query of the walk. rest tells what of the scope a node leaves to be tested row by row, "" for nothing.
func (c check) planOfWalk(ctx context.Context, sql string, values []any, rest func(PlanNode) string) (scopePlan, error) {
	seen := scopePlan{}
	var text []byte
	err := c.tx.QueryRow(ctx, explainPrefix+sql, append([]any{pgx.QueryExecModeDescribeExec}, values...)...).Scan(&text)
	if err != nil {
		return seen, c.blameScope(err, "plan")
	}
	plans, err := ReadPlans(text)
	if err != nil {
		return seen, fmt.Errorf("the scope of work %q: %w", c.work.Name, err)
	}
	if seen.parts, err = c.parts(ctx); err != nil {
		return seen, err
	}
	for _, plan := range plans {
		seen.look(plan, rest)
	}
	return seen, nil
}

func (s *scopePlan) look(node PlanNode, rest func(PlanNode) string) {
	reads := s.parts[part{node.Schema, node.Table}]
	if reads {
		s.readers++
		s.rows += node.Rows
		s.indexes = append(s.indexes, node.Index)
	}
	left := rest(node)
	switch {
	case s.rest != "":
	case left != "":
		s.unfit, s.rest = node.Index, "tests each row for "+left
	case reads && !strings.HasPrefix(node.NodeType, "Index"), strings.HasSuffix(node.NodeType, "Sort"):
		s.unfit, s.rest = node.Index, "needs a "+node.NodeType
	}
	for _, child := range node.Plans {
		s.look(child, rest)
	}
}

// unserved says which index would serve the scope, or what an index lacks that looks like it.
func (c check) unserved(ctx context.Context, seen scopePlan) error {
	reading := "the plan of its walk"
	if seen.unfit != "" {
		reading += " by index " + WriteName(seen.unfit)
	}
	indexes, err := c.queries.TargetListIndexes(ctx, c.tx, c.target.Oid)
	if err != nil {
		return fmt.Errorf("list the indexes of %s: %w", c.target.Name, err)
	}
	for _, index := range indexes {
		if !index.IsPartial || !slices.Equal(index.Columns, c.work.Cursor) {
			continue
		}
		index.IsPartial = false // which is what is wanted here
		if flaw, _ := flawOf(index, true); flaw != "" {
			return invalid(dbgen.BBMMigrationFailureCodeInvalidCursor, "%s: no index serves the scope: %s %s; and the partial index %s %s",
				c.work.scopeFile(), reading, seen.rest, WriteName(index.Name), flaw)
		}
	}
	return invalid(dbgen.BBMMigrationFailureCodeInvalidCursor,
		"%s: no index serves the scope: %s %s; CREATE INDEX%s ON %s (%s) WHERE %s, or leave the scope out",
		c.work.scopeFile(), reading, seen.rest, concurrently(c.target.Partitioned), c.target.Name, WriteNames(c.work.Cursor), c.work.Scope)
}

// blameScope makes the server's error one about the scope's line.
func (c check) blameScope(err error, attempted string) error {
	fault := definitionFault(err)
	if fault == nil {
		return fmt.Errorf("%s the scope of work %q: %w", attempted, c.work.Name, err)
	}
	return invalid(dbgen.BBMMigrationFailureCodeInvalidWork, "%s: scope: %s", c.work.scopeFile(), plainMessage(fault))
}

// scopeFile is how messages about the scope begin.
func (w *Work) scopeFile() string { return w.fileAt(w.scopeLine) }
