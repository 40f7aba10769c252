package work

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bbm-runner/bbm-runner/internal/nearest"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// Resolve finds the work's table as the catalog has it now. It returns a [*DefinitionError] when the work cannot run on it: the table must be
// a plain or a partitioned one, and its cursor the columns of an index that can serve it. It does not depend on the session's search_path.
func Resolve(ctx context.Context, db dbgen.DBTX, w *Work) (Target, error) {
	queries := dbgen.New()
	found, err := findTable(ctx, queries, db, w)
	if err != nil {
		return Target{}, err
	}
	if err := checkTable(found); err != nil {
		return Target{}, err
	}
	columns, err := queries.TargetListColumns(ctx, db, found.TableOid)
	if err != nil {
		return Target{}, fmt.Errorf("list the columns of %s: %w", found.Name, err)
	}
	indexes, err := queries.TargetListIndexes(ctx, db, found.TableOid)
	if err != nil {
		return Target{}, fmt.Errorf("list the indexes of %s: %w", found.Name, err)
	}
	table := tableFacts{found, columns, indexes}
	cursor, order, err := table.cursor(w)
	if err != nil {
		return Target{}, err
	}
	return Target{
		Schema: found.SchemaName, Table: found.TableName, Columns: cursor, Repeated: w.RepeatedKeys, Partitioned: found.Kind == "p",
		Oid: found.TableOid, RootOid: found.RootTableOid, Name: found.Name, Rows: found.EstimatedRows, Order: order,
	}, nil
}

// CheckStands returns a [*DefinitionError] when the name of the target stands for another table
// than when it was looked up. It is asked behind statements about the target, at the end of their
// transaction: their locks keep the name where it is, so what they have read is of the target.
func CheckStands(ctx context.Context, db dbgen.DBTX, t Target) error {
	stands, err := dbgen.New().TargetStands(ctx, db, dbgen.TargetStandsParams{TableName: t.Name, TableOid: t.Oid})
	if err != nil {
		return fmt.Errorf("look %s up again: %w", t.Name, err)
	}
	if !stands {
		return invalid(dbgen.BBMMigrationFailureCodeInvalidTable,
			"%s was renamed, dropped or made again while it was looked at; if it is the table that is meant now, try again", t.Name)
	}
	return nil
}

// tableFacts are what the catalog knows of a table.
type tableFacts struct {
	dbgen.TargetFindRow
	columns []dbgen.TargetListColumnsRow
	indexes []dbgen.TargetListIndexesRow
}

// findTable looks where the session of a runner would: in pg_catalog, then in the header's search_path.
func findTable(ctx context.Context, queries *dbgen.Queries, db dbgen.DBTX, w *Work) (dbgen.TargetFindRow, error) {
	names, err := w.TableName()
	if err != nil {
		return dbgen.TargetFindRow{}, invalid(dbgen.BBMMigrationFailureCodeInvalidTable, "%s", err)
	}
	schemas, where := append([]string{"pg_catalog"}, w.SearchPath...), " in the search_path "+strings.Join(w.SearchPath, ", ")
	if len(names) == 2 {
		schemas, where = names[:1], ""
	}
	found, err := queries.TargetFind(ctx, db, dbgen.TargetFindParams{TableName: names[len(names)-1], SchemaNames: schemas})
	if errors.Is(err, pgx.ErrNoRows) {
		return found, invalid(dbgen.BBMMigrationFailureCodeInvalidTable,
			"table %s does not exist%s; correct the work's table, or create it first", WriteName(names...), where)
	}
	if err != nil {
		return found, fmt.Errorf("find table %s: %w", w.Table, err)
	}
	return found, nil
}

// kinds are the relations that are no tables, as pg_class.relkind names them.
var kinds = map[string]string{
	"v": "a view", "m": "a materialized view", "f": "a foreign table", "i": "an index", "I": "an index",
	"S": "a sequence", "c": "a composite type", "t": "a TOAST table",
}

// checkTable refuses what no sub-batch could change together with its progress, or what no index covers whole.
func checkTable(found dbgen.TargetFindRow) error {
	refuse := func(format string, values ...any) error {
		return invalid(dbgen.BBMMigrationFailureCodeInvalidTable, format, values...)
	}
	switch kind := found.Kind; {
	case kind == "f":
		return refuse("%s is a foreign table, whose rows commit on another server; run the migration there", found.Name)
	case kind != "r" && kind != "p":
		return refuse("%s is %s; a work changes the rows of a plain or a partitioned table", found.Name, kinds[kind])
	case found.ForeignPartition != "":
		return refuse("%s has the foreign partition %s, whose rows commit on another server; name a partition of this server as the table",
			found.Name, found.ForeignPartition)
	case found.IsTemporary:
		return refuse("%s is a temporary table, which no other session sees; use a table that lasts", found.Name)
	case found.HasChildren:
		return refuse("%s has tables that inherit from it, which its indexes do not cover; write a work for ONLY each of them", found.Name)
	case !found.IsSchemaUsable:
		return refuse("permission denied for schema %s; GRANT USAGE ON SCHEMA %s to this role",
			WriteName(found.SchemaName), WriteName(found.SchemaName))
	}
	return nil
}

// cursor returns the work's cursor columns with their types and their orders, when an index can
// serve them.
func (t tableFacts) cursor(w *Work) (cursor []Column, order []string, err error) {
	for _, name := range w.Cursor {
		column, err := t.cursorColumn(name)
		if err != nil {
			return nil, nil, err
		}
		at := slices.IndexFunc(t.columns, func(c dbgen.TargetListColumnsRow) bool { return c.Name == name })
		cursor, order = append(cursor, column), append(order, orderOf(column.Type, t.columns[at].CollationName))
	}
	if err := t.checkIndexes(w); err != nil {
		return nil, nil, err
	}
	return cursor, order, nil
}

func (t tableFacts) cursorColumn(name string) (Column, error) {
	refuse := func(format string, values ...any) (Column, error) {
		return Column{}, invalid(dbgen.BBMMigrationFailureCodeInvalidCursor, format, values...)
	}
	at := slices.IndexFunc(t.columns, func(c dbgen.TargetListColumnsRow) bool { return c.Name == name })
	if at < 0 {
		names := make([]string, len(t.columns))
		for i, column := range t.columns {
			names[i] = column.Name
		}
		if near := nearest.Word(name, names); near != "" {
			return refuse("%s has no column %s; did you mean %s?", t.Name, WriteName(name), WriteName(near))
		}
		return refuse("%s has no column %s; its columns are %s", t.Name, WriteName(name), strings.Join(names, ", "))
	}
	column := t.columns[at]
	switch {
	case !KeyTypeAllowed(column.Type):
		return refuse("column %s of %s has the type %s, whose keys would not keep their order; a cursor's columns are of %s",
			WriteName(name), t.Name, column.Type, strings.Join(keyTypes, ", "))
	case !column.IsNotNull:
		return refuse("column %s of %s may be NULL, and such rows are in no batch; choose other columns, or make it NOT NULL",
			WriteName(name), t.Name)
	}
	return Column{column.Name, column.Type}, nil
}
