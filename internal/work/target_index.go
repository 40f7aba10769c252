package work

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// checkIndexes returns nil when an index has exactly the cursor's columns, in order, and can serve it. Otherwise the error tells what the
// nearest index lacks.
func (t tableFacts) checkIndexes(w *Work) error {
	cursor := WriteNames(w.Cursor)
	nearest, reason := -1, ""
	for _, index := range t.indexes {
		if !slices.Equal(index.Columns, w.Cursor) {
			continue
		}
		flaw, passed := flawOf(index, w.RepeatedKeys)
		if flaw == "" {
			return nil
		}
		if passed > nearest {
			nearest, reason = passed, fmt.Sprintf("the cursor's index %s %s", WriteName(index.Name), flaw)
		}
	}
	if reason == "" {
		reason = t.missingIndex(w, cursor)
	}
	return invalid(dbgen.BBMMigrationFailureCodeInvalidCursor, "%s", reason)
}

// flawOf says why an index cannot serve a cursor of its columns, "" when it can; passed is how many checks it has passed before.
func flawOf(index dbgen.TargetListIndexesRow, repeatedKeys bool) (flaw string, passed int) {
	name := WriteName(index.Name)
	for i, check := range []struct {
		holds bool
		flaw  string
	}{
		{index.Method == "btree", "is of the type " + index.Method + ", which keeps no order; a btree index is needed"},
		{!index.IsPartial, "is partial and does not hold every row; an index without WHERE is needed"},
		{index.HasDefaultClasses, "has an operator class that is not the default of its column, so that it keeps another order; one without is needed"},
		{index.HasColumnCollations, "has another collation than its column, so that it keeps another order; one without is needed"},
		{index.HasOneDirection, "mixes directions or has an unusual NULLS order; all of its columns must be ASC, or all DESC, without NULLS options"},
		{
			index.IsUnique || repeatedKeys,
			`is not unique; add "-- repeated_keys: yes" to the work (rows of equal keys then stay together), or use the columns of a unique index`,
		},
		{index.IsValid, fmt.Sprintf("is not valid: its building has failed or goes on; wait, or drop it and build it again (REINDEX INDEX CONCURRENTLY %s)", name)},
	} {
		if !check.holds {
			return check.flaw, i
		}
	}
	return "", 0
}

// missingIndex says what to do where no index has exactly the cursor's columns.
func (t tableFacts) missingIndex(w *Work, cursor string) string {
	for _, index := range t.indexes {
		if flaw, _ := flawOf(index, w.RepeatedKeys); flaw != "" || slices.Contains(index.Columns, "") {
			continue
		}
		if sameSet(index.Columns, w.Cursor) {
			return fmt.Sprintf("no index of %s is on (%s), but %s is on the same columns in another order; write cursor: %s",
				t.Name, cursor, WriteName(index.Name), WriteNames(index.Columns))
		}
	}
	unique, remedy := "unique index", "CREATE UNIQUE INDEX"
	if w.RepeatedKeys {
		unique, remedy = "index", "CREATE INDEX"
	}
	reason := fmt.Sprintf("no %s of %s has exactly the cursor's columns (%s); %s%s ON %s (%s)",
		unique, t.Name, cursor, remedy, concurrently(t.Kind == "p"), t.Name, cursor)
	if columns := t.bestCursor(); columns != nil && !slices.Equal(columns, w.Cursor) {
		reason += fmt.Sprintf(", or write cursor: %s", WriteNames(columns))
	}
	return reason
}

// concurrently is what follows CREATE INDEX: PostgreSQL cannot build an index of a partitioned table like that.
func concurrently(partitioned bool) string {
	if partitioned {
		return ""
	}
	return " CONCURRENTLY"
}

// SuggestCursor returns the columns that serve best as a cursor of the table: the primary key, else another unique index. It returns a
// [*DefinitionError] when the table is none that a work can change, or has no such index.
func SuggestCursor(ctx context.Context, db dbgen.DBTX, table string, searchPath []string) (columns []string, err error) {
	queries := dbgen.New()
	found, err := findTable(ctx, queries, db, &Work{Table: table, SearchPath: searchPath})
	if err != nil {
		return nil, err
	}
	if err := checkTable(found); err != nil {
		return nil, err
	}
	t := tableFacts{TargetFindRow: found}
	if t.columns, err = queries.TargetListColumns(ctx, db, found.TableOid); err != nil {
		return nil, fmt.Errorf("list the columns of %s: %w", found.Name, err)
	}
	if t.indexes, err = queries.TargetListIndexes(ctx, db, found.TableOid); err != nil {
		return nil, fmt.Errorf("list the indexes of %s: %w", found.Name, err)
	}
	if columns = t.bestCursor(); columns == nil {
		return nil, invalid(dbgen.BBMMigrationFailureCodeInvalidCursor,
			"%s has no unique index that can serve as a cursor: it must be on NOT NULL columns of %s", found.Name, strings.Join(keyTypes, ", "))
	}
	return columns, nil
}

// bestCursor returns the columns of the first index that can serve as a cursor; the primary key comes first. nil: there is none.
func (t tableFacts) bestCursor() []string {
	for _, index := range t.indexes {
		flaw, _ := flawOf(index, false)
		usable := flaw == "" && !slices.ContainsFunc(index.Columns, func(name string) bool {
			_, err := t.cursorColumn(name)
			return err != nil
		})
		if usable {
			return index.Columns
		}
	}
	return nil
}

// sameSet reports whether two lists without repetitions have the same names.
func sameSet(a, b []string) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(name string) bool { return !slices.Contains(b, name) })
}
