package preview

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/session"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// settingsShown are those that decide what a statement means, how it is planned and how long it may take.
var settingsShown = []string{
	"search_path", "TimeZone", "DateStyle", "row_security", "plan_cache_mode", "jit", "work_mem",
	"lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout",
}

const (
	jsonPlan = "EXPLAIN (FORMAT JSON, VERBOSE, SETTINGS) "
	textPlan = "EXPLAIN (SETTINGS) "
)

// Explain tells what would run for the subject, with plans for one sub-batch from the middle of its range. It returns a [*work.DefinitionError]
// when the subject cannot run. Nothing is changed: all happens in a read-only transaction. conn is one of session.Connect, with a run's timeouts.
func Explain(ctx context.Context, conn *pgx.Conn, s Subject) (*Explanation, error) {
	ctx = session.Cancellable(ctx)
	var e *Explanation
	err := onStage(ctx, conn, s, func(st *stage) (err error) {
		e, err = st.explain(ctx)
		return err
	})
	if err != nil {
		return nil, orStopped(ctx, err)
	}
	return e, nil
}

// Review proves that the subject can run, and returns what it runs on and the warnings of
// [Explain], but for that of the session's role: it need not be the runner's.
func Review(ctx context.Context, conn *pgx.Conn, s Subject) (t work.Target, warnings []Warning, err error) {
	err = onStage(ctx, conn, s, func(st *stage) error {
		t = st.target
		t.Rows = st.rows
		_, err := st.explain(ctx)
		warnings = slices.DeleteFunc(st.warnings, func(w Warning) bool { return w.Code == superuser })
		return err
	})
	if err != nil {
		return t, nil, orStopped(ctx, err)
	}
	return t, warnings, nil
}

// superuser is the code of the warning about the session's role.
const superuser = "superuser"

func (st *stage) explain(ctx context.Context) (*Explanation, error) {
	role, err := queries.PreviewRole(ctx, st.tx)
	if err != nil {
		return nil, fmt.Errorf("look at the role: %w", err)
	}
	e := st.outline(role)
	settings, err := queries.PreviewSettingList(ctx, st.tx, settingsShown)
	if err != nil {
		return nil, fmt.Errorf("list the settings: %w", err)
	}
	for _, s := range settings {
		e.Settings = append(e.Settings, Setting(s))
	}
	r, err := st.middle(ctx, e)
	if err != nil {
		return nil, err
	}
	var plan *work.PlanNode
	if r.Until == nil {
		st.warn("empty_table", "%s is empty%s: there is no range to plan for, and a migration of it is finished at once", st.target.Name, st.inScope())
	} else if plan, err = st.plans(ctx, e, r); err != nil {
		return nil, err
	}
	if e.Writes, err = st.writes(ctx, plan, role); err != nil {
		return nil, err
	}
	st.warnOfRole(e.Writes, role)
	e.Warnings = append(e.Warnings, st.warnings...)
	return e, nil
}

// outline is what is known without a look at the rows.
func (st *stage) outline(role dbgen.PreviewRoleRow) *Explanation {
	e := &Explanation{
		Work: st.Work.Name, Checksum: st.Work.Checksum(), Table: st.target.Name, Cursor: st.Work.Cursor, CursorIndex: []string{},
		Arguments: st.Arguments, Rows: st.rows, BatchSize: st.JobSize(), SubBatchSize: st.subBatchSize(), IsAdaptive: st.isAdaptive(),
		Role: role.Name, Settings: []Setting{}, Sizes: []SizePlan{}, Writes: []Write{}, Warnings: []Warning{},
	}
	if e.Arguments == nil {
		e.Arguments = work.Arguments{}
	}
	if st.Work.Scope != "" {
		e.Scope = &st.Work.Scope
	}
	if st.Migration != "" {
		e.Migration = &st.Migration
	}
	e.Jobs, e.SubBatches = pieces(e.Rows, e.BatchSize), pieces(e.Rows, e.SubBatchSize)
	return e
}

// pieces is how many pieces of that size rows make.
func pieces(rows int64, size int) int64 { return (rows + int64(size) - 1) / int64(size) }

// middle finds one sub-batch from the middle of the range; its Until is nil for an empty table.
func (st *stage) middle(ctx context.Context, e *Explanation) (work.Range, error) {
	until, err := st.lastKey(ctx)
	if err != nil || until == nil {
		return work.Range{}, err
	}
	found, err := st.places(ctx, until, []float64{0.5}, e.SubBatchSize)
	if err != nil {
		return work.Range{}, err
	}
	r := work.Range{After: found[0].after, Until: until}
	end, rows, err := st.boundary(ctx, r, e.SubBatchSize)
	if err != nil {
		return work.Range{}, err
	}
	if end == nil { // a migration's range may have become empty
		end = until
	}
	r.Until = end
	e.Range = &Range{After: r.After, Until: end, Rows: rows, Found: st.found}
	return r, nil
}

// plans plans the statements for a range. The work's plan is nil for a work in Go.
func (st *stage) plans(ctx context.Context, e *Explanation, r work.Range) (*work.PlanNode, error) {
	until, err := st.lastKey(ctx)
	if err != nil {
		return nil, err
	}
	err = st.streaming(ctx, func(tx pgx.Tx) error {
		sql, values := st.statements.Boundary(work.Range{After: r.After, Until: until}, e.SubBatchSize, e.SubBatchSize)
		var plan work.PlanNode
		if e.Boundary, plan, err = plannedStatement(ctx, tx, sql, values); err != nil {
			return fmt.Errorf("plan the boundary query: %w", err)
		}
		before := work.StreamingPlans
		e.Boundary.Before = &before
		e.CursorIndex = st.cursorIndexes(plan)
		st.judgeBoundary(plan)
		if st.Work.Remaining == "" {
			return nil
		}
		sql, values = st.statements.Piece(work.Range{After: r.After, Until: until}, work.DefaultSubBatchSize, nil)
		if e.Remaining, _, err = plannedStatement(ctx, tx, sql, values); err != nil {
			return fmt.Errorf("plan the look for rows that remain: %w", err)
		}
		e.Remaining.Before = &before
		return nil
	})
	if err != nil {
		return nil, err
	}
	if st.Work.Do != nil {
		st.warn("go_work", "the work is written in Go: what it sends is known only to it; see bbm-runner sample")
		return nil, nil
	}
	sql, values, err := st.statements.Work(r, st.Arguments)
	if err != nil {
		return nil, err
	}
	var plan work.PlanNode
	if e.Statement, plan, err = plannedStatement(ctx, st.tx, sql, values); err != nil {
		return nil, st.Work.Blame(err, sql, len(jsonPlan), "plan the statement")
	}
	if err := st.judgeWork(ctx, plan); err != nil {
		return nil, err
	}
	if e.IsAdaptive {
		if err := st.planSizes(ctx, e); err != nil {
			return nil, err
		}
	}
	return &plan, nil
}

func plannedStatement(ctx context.Context, tx pgx.Tx, sql string, values []any) (*Statement, work.PlanNode, error) {
	text, plan, err := explainPlan(ctx, tx, sql, values)
	if err != nil {
		return nil, plan, err
	}
	readable, err := explainText(ctx, tx, sql, values)
	if err != nil {
		return nil, plan, err
	}
	return &Statement{SQL: sql, Parameters: values, Plan: text, PlanText: readable}, plan, nil
}

// warnOfRole tells what a superuser's session would mean.
func (st *stage) warnOfRole(writes []Write, role dbgen.PreviewRoleRow) {
	if !role.IsSuperuser {
		return
	}
	lent := []string{"functions", "defaults"}
	for _, w := range writes {
		for _, t := range w.Triggers {
			if t.IsEnabled && !t.IsDefiner {
				lent = append(lent, "the trigger "+t.Name)
			}
		}
	}
	st.warn(superuser, "%s is a superuser, and lends its rights to whatever the statement calls, whoever wrote it (%s): run the work as a role with just the rights "+
		"that it needs", role.Name, strings.Join(lent, ", "))
}
