package preview

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

const beforeRow = "before row"

// triggers lists the triggers that the write can fire, for as many rows of each sub-batch.
func (st *stage) triggers(ctx context.Context, w *Write, oid uint32, rows float64) error {
	found, err := queries.PreviewTableListTriggers(ctx, st.tx, oid)
	if err != nil {
		return fmt.Errorf("list the triggers of %s: %w", w.Table, err)
	}
	for _, t := range found {
		// UPDATE OF fires by the columns that are named in SET, and by what is generated from these.
		fires := t.IsOnInsert && w.inserts() || t.IsOnDelete && w.deletes() ||
			t.IsOnUpdate && (w.updates() || w.Operation == unknown) && (len(t.Columns) == 0 || w.assigns(t.Columns))
		if !fires || !t.IsPerRow && !t.IsOwn {
			continue
		}
		timing := []string{"after", "statement"}
		if t.IsBefore {
			timing[0] = "before"
		}
		if t.IsPerRow {
			timing[1] = "row"
		}
		trigger := Trigger{
			Name: t.Name, Table: t.TableName, Function: t.FunctionName, Timing: strings.Join(timing, " "),
			IsEnabled: t.IsEnabled, IsDefiner: t.IsSecurityDefiner, IsDeferred: t.IsDeferrable,
		}
		w.Triggers = append(w.Triggers, trigger)
		switch {
		case !t.IsEnabled:
			st.warn("disabled_trigger", "the trigger %s of %s is disabled: what it keeps in order is not kept for the rows of this work", t.Name, t.TableName)
		case t.IsPerRow:
			st.warn("trigger_per_row", "the trigger %s of %s calls %s for each row: about %.0f times for each sub-batch of %d rows, as the planner expects",
				t.Name, t.TableName, t.FunctionName, rows, st.subBatchSize())
		}
	}
	return nil
}

// actions are what foreign keys do, as the catalog codes it.
var actions = map[string]string{"a": "no action", "r": "restrict", "c": "cascade", "n": "set null", "d": "set default"}

// foreignKeys lists the foreign keys that the write makes the server check: those of the written table for new values, those that lead to
// it for rows that go and keys that change.
func (st *stage) foreignKeys(ctx context.Context, w *Write, oid uint32) error {
	found, err := queries.PreviewTableListForeignKeys(ctx, st.tx, oid)
	if err != nil {
		return fmt.Errorf("list the foreign keys of %s: %w", w.Table, err)
	}
	for _, k := range found {
		key := ForeignKey{
			Name: k.Name, Table: k.TableName, Columns: k.Columns, ReferencedTable: k.ReferencedTableName, ReferencedColumns: k.ReferencedColumns,
			IsDeferred: k.IsDeferred, IsValidated: k.IsValidated, IsIndexed: k.IsIndexed,
		}
		if k.IsOutgoing && (w.inserts() || w.updates() && w.assigns(k.Columns)) {
			key.Direction = "outgoing"
			w.ForeignKeys = append(w.ForeignKeys, key)
			st.warnOfOutgoing(*w, key)
		}
		if isKeyChanged := w.updates() && w.assigns(k.ReferencedColumns); k.IsIncoming && (w.deletes() || isKeyChanged) {
			key.Direction, key.Action = "incoming", actions[k.OnDelete]
			if !w.deletes() {
				key.Action = actions[k.OnUpdate]
			}
			w.ForeignKeys = append(w.ForeignKeys, key)
			st.warnOfIncoming(*w, key)
		}
	}
	return nil
}

func (st *stage) warnOfOutgoing(w Write, k ForeignKey) {
	st.warn("foreign_key_per_row", "the foreign key %s looks up %s for each row of %s with a new value", k.Name, k.ReferencedTable, w.Table)
	if !k.IsValidated {
		st.warn("not_valid_foreign_key", "the foreign key %s of %s is NOT VALID: new values are checked, and an old value that breaks it is not found here", k.Name, k.Table)
	}
}

func (st *stage) warnOfIncoming(w Write, k ForeignKey) {
	if !k.IsIndexed {
		st.warn("no_index", "the foreign key %s makes the server search %s for each row of %s, and no index on (%s) serves that: it reads all of %s each time",
			k.Name, k.Table, w.Table, names(k.Columns), k.Table)
	}
	if slices.Contains([]string{"cascade", "set null", "set default"}, k.Action) {
		st.warn("cascade", "the foreign key %s carries the change on to %s (%s): rows there are changed and locked too, as many as refer to the batch",
			k.Name, k.Table, k.Action)
	}
}
