package preview

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/work"
)

const (
	// noticedScan is how many rows make a full scan for each sub-batch worth a warning: they cost about a millisecond.
	noticedScan = 10_000
	// noticedRepeated is the same where the scan is repeated for each row of something else.
	noticedRepeated = 100
)

// cursorIndexes are what a boundary query's plan walks.
func (st *stage) cursorIndexes(plan node) []string {
	found := []string{}
	plan.walk(func(n node, _ bool) {
		if n.IndexName != "" && !slices.Contains(found, n.IndexName) {
			found = append(found, n.IndexName)
		}
	})
	return found
}

// judgeBoundary looks for what makes the walk along the cursor more than a walk.
func (st *stage) judgeBoundary(plan node) {
	plan.walk(func(n node, _ bool) {
		switch {
		case strings.Contains(n.NodeType, "Sort"):
			st.warn("boundary_sort", "the boundary query sorts: no index gives the rows of %s in the order of %s", st.target.Name, work.WriteNames(st.Work.Cursor))
		case n.NodeType == "Seq Scan":
			st.warn("boundary_scan", "the boundary query reads all of %s: no index serves the cursor", work.WriteName(n.Schema, n.Table))
		}
	})
}

// judgeWork looks for what costs a sub-batch more than its rows.
func (st *stage) judgeWork(ctx context.Context, plan node) (err error) {
	plan.walk(func(n node, perRow bool) {
		switch {
		case err != nil:
		case n.NodeType == "Seq Scan", strings.HasPrefix(n.NodeType, "Index") && n.IndexCond == "":
			err = st.judgeScan(ctx, n, perRow)
		case strings.Contains(n.NodeType, "Sort") && perRow:
			st.warn("sort", "the statement sorts again for each row of something else, about %.0f rows each time", n.Rows)
		case strings.Contains(n.NodeType, "Sort") && n.Rows > float64(st.subBatchSize()):
			st.warn("sort", "the statement sorts about %.0f rows for each sub-batch", n.Rows)
		}
	})
	if err == nil && !strings.HasPrefix(plan.NodeType, "ModifyTable") && len(writtenBy(plan)) == 0 {
		st.warn("no_write", "the statement itself writes to no table: what the functions that it calls do is not shown here")
	}
	return err
}

// judgeScan warns of a whole table that is read for each sub-batch, or even for each row.
func (st *stage) judgeScan(ctx context.Context, n node, perRow bool) error {
	name := work.WriteName(n.Schema, n.Table)
	table, err := findTable(ctx, st.tx, n.Schema, n.Table)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	switch {
	case perRow && table.Rows >= noticedRepeated:
		st.warn("no_index", "all of %s (about %d rows) is read again for each row of something else: no index serves that search", name, table.Rows)
	case table.Rows >= noticedScan:
		st.warn("full_scan", "all of %s (about %d rows) is read for each sub-batch", name, table.Rows)
	}
	return nil
}

// target is one table that a plan writes to.
type target struct{ schema, table, operation string }

// writtenBy lists what a plan writes to, as the statement names it.
func writtenBy(plan node) []target {
	var all []target
	plan.walk(func(n node, _ bool) {
		t := target{n.Schema, n.Table, strings.ToLower(n.Operation)}
		if n.NodeType == "ModifyTable" && !slices.Contains(all, t) {
			all = append(all, t)
		}
	})
	return all
}
