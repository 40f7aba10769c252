package preview

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// Operations, as a plan names them in lower case; unknown where there is no plan.
const (
	insert  = "insert"
	update  = "update"
	remove  = "delete"
	merge   = "merge"
	unknown = "unknown"
)

// writes describes every table that the statement writes to. Without a plan (an empty table, a work in Go) it is the work's own, and what is done
// to it is taken from the statement's SET clauses, or unknown.
func (st *stage) writes(ctx context.Context, plan *work.PlanNode, role dbgen.PreviewRoleRow) ([]Write, error) {
	own := target{st.target.Schema, st.target.Table, unknown, float64(st.subBatchSize())}
	targets := []target{own}
	if plan != nil {
		targets = writtenBy(*plan)
	} else if len(st.assignedTo(own)) > 0 {
		targets[0].operation = update
	}
	all := make([]Write, 0, len(targets))
	for _, t := range targets {
		w, err := st.write(ctx, t, role)
		if err != nil {
			return nil, err
		}
		all = append(all, w)
	}
	return all, nil
}

// write describes one of them.
func (st *stage) write(ctx context.Context, t target, role dbgen.PreviewRoleRow) (Write, error) {
	table, err := findTable(ctx, st.tx, t.schema, t.table)
	if err != nil {
		return Write{}, err
	}
	w := Write{
		Table: table.Name, Operation: t.operation, Columns: st.assignedTo(t), Rows: table.Rows, Fillfactor: int(table.Fillfactor),
		Indexes: []Index{}, Triggers: []Trigger{}, ForeignKeys: []ForeignKey{},
	}
	if w.Columns, err = st.withGenerated(ctx, table.TableOid, w.Columns); err != nil {
		return w, err
	}
	if err := st.indexes(ctx, &w, table.TableOid); err != nil {
		return w, err
	}
	if err := st.triggers(ctx, &w, table.TableOid, t.rows); err != nil {
		return w, err
	}
	if w.updates() {
		w.HOT = st.hot(w, role)
	}
	if err := st.foreignKeys(ctx, &w, table.TableOid); err != nil {
		return w, err
	}
	st.warnOfTable(w, table)
	return w, nil
}

// updates, inserts and deletes tell what may happen to rows: all of it where the operation is not known.
func (w Write) updates() bool {
	return w.Operation == update || len(w.Columns) > 0
}

func (w Write) inserts() bool { return slices.Contains([]string{insert, merge, unknown}, w.Operation) }

func (w Write) deletes() bool { return slices.Contains([]string{remove, merge, unknown}, w.Operation) }

// assigns tells whether one of the columns is assigned; where the statement is not known, each may be.
func (w Write) assigns(columns []string) bool {
	return w.Operation == unknown || slices.ContainsFunc(columns, func(c string) bool { return slices.Contains(w.Columns, c) })
}

// assignedTo lists the columns that the statement's SET clauses assign in a table. A name without a schema is any table's of that name: rather one
// column too many than one missed.
func (st *stage) assignedTo(t target) []string {
	columns := []string{}
	for _, a := range st.Work.Assignments() {
		last := len(a.Table) - 1
		if last < 0 || a.Table[last] != t.table || last == 1 && a.Table[0] != t.schema {
			continue
		}
		for _, c := range a.Columns {
			if !slices.Contains(columns, c) {
				columns = append(columns, c)
			}
		}
	}
	return columns
}

// withGenerated adds the stored generated columns that are computed from assigned ones.
func (st *stage) withGenerated(ctx context.Context, oid uint32, assigned []string) ([]string, error) {
	if len(assigned) == 0 {
		return assigned, nil
	}
	generated, err := queries.PreviewTableListGenerated(ctx, st.tx, oid)
	if err != nil {
		return nil, fmt.Errorf("list the generated columns: %w", err)
	}
	all := slices.Clone(assigned)
	for _, g := range generated {
		if slices.Contains(assigned, g.Base) && !slices.Contains(all, g.Name) {
			all = append(all, g.Name)
		}
	}
	return all, nil
}

func (st *stage) indexes(ctx context.Context, w *Write, oid uint32) error {
	found, err := queries.PreviewTableListIndexes(ctx, st.tx, oid)
	if err != nil {
		return fmt.Errorf("list the indexes of %s: %w", w.Table, err)
	}
	for _, i := range found {
		w.Indexes = append(w.Indexes, Index{
			Name: i.Name, Definition: i.Definition, Columns: i.Columns, IsValid: i.IsValid, Method: i.Method,
			IsChanged: w.updates() && w.assigns(i.Columns),
		})
		if !i.IsValid {
			st.warn("invalid_index", "the index %s is not valid: it serves no query and is kept up all the same; drop it, or build it again", i.Name)
		}
	}
	return nil
}

// warnOfTable tells what is special about a table.
func (st *stage) warnOfTable(w Write, table dbgen.PreviewTableRow) {
	if table.HasRowSecurity {
		st.warn("row_level_security", "%s has row-level security, and this role bypasses it: its policies are not applied; the same work is refused for a role that "+
			"does not bypass it, so that no row is skipped in silence", w.Table)
	}
	if table.IsUnlogged {
		st.warn("unlogged", "%s is unlogged: after a crash of the server it is empty, and the migration's progress is not", w.Table)
	}
	if len(table.UnprovedChecks) > 0 && w.Operation != remove {
		st.warn("not_valid_check", "the check %s of %s is NOT VALID: an old row that breaks it makes its sub-batch fail, whatever is changed in it",
			strings.Join(table.UnprovedChecks, ", "), w.Table)
	}
}

func names(columns []string) string { return work.WriteNames(columns) }
