package preview

import (
	"context"
	"slices"
	"strings"

	"github.com/bbm-runner/bbm-runner/internal/work"
)

// cursorIndexes are what a boundary query's plan walks.
func (st *stage) cursorIndexes(plan work.PlanNode) []string {
	found := []string{}
	plan.Walk(func(n work.PlanNode, _ float64) {
		if n.Index != "" && !slices.Contains(found, n.Index) {
			found = append(found, n.Index)
		}
	})
	return found
}

// judgeBoundary looks for what makes the walk along the cursor more than a walk.
func (st *stage) judgeBoundary(plan work.PlanNode) {
	plan.Walk(func(n work.PlanNode, _ float64) {
		switch {
		case strings.Contains(n.NodeType, "Sort"):
			st.warn("boundary_sort", "the boundary query sorts: no index gives the rows of %s in the order of %s", st.target.Name, work.WriteNames(st.Work.Cursor))
		case n.NodeType == "Seq Scan":
			st.warn("boundary_scan", "the boundary query reads all of %s: no index serves the cursor", work.WriteName(n.Schema, n.Table))
		}
	})
}

// judgeWork looks for what costs a sub-batch more than its rows.
func (st *stage) judgeWork(ctx context.Context, plan work.PlanNode) error {
	plan.Walk(func(n work.PlanNode, times float64) {
		switch {
		case !strings.Contains(n.NodeType, "Sort"):
		case times >= 2:
			st.warn("sort", "the statement sorts again for rows of the batch, about %.0f times %.0f rows for each sub-batch", times, n.Rows)
		case n.Rows > float64(st.subBatchSize()):
			st.warn("sort", "the statement sorts about %.0f rows for each sub-batch", n.Rows)
		}
	})
	reads, err := work.FindReads(ctx, st.tx, plan)
	if err != nil {
		return err
	}
	for _, r := range reads {
		if w := r.Warning(pieces(st.rows, st.subBatchSize())); w != nil {
			st.add(*w)
		}
	}
	if len(writtenBy(plan)) == 0 {
		st.warn("no_write", "the statement itself writes to no table: what the functions that it calls do is not shown here")
	}
	return nil
}

// target is one table that a plan writes to, and how many rows there for each sub-batch, as the
// planner expects.
type target struct {
	schema, table, operation string
	rows                     float64
}

// writtenBy lists what a plan writes to, as the statement names it.
func writtenBy(plan work.PlanNode) []target {
	var all []target
	plan.Walk(func(n work.PlanNode, _ float64) {
		if n.NodeType != "ModifyTable" {
			return
		}
		t := target{n.Schema, n.Table, strings.ToLower(n.Operation), 0}
		isSame := func(other target) bool {
			return other.schema == t.schema && other.table == t.table && other.operation == t.operation
		}
		i := slices.IndexFunc(all, isSame)
		if i < 0 {
			i, all = len(all), append(all, t)
		}
		for _, child := range n.Plans {
			if child.Relationship == "Outer" || child.Relationship == "Member" {
				all[i].rows += child.Rows
			}
		}
	})
	return all
}
