package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

func (a *app) newNewCommand() *cobra.Command {
	var table string
	cmd := &cobra.Command{
		Use:   "new NAME --table TABLE",
		Short: "Write a work file to start from",
		Long: `Writes NAME.sql into the folder of works, with the cursor taken from the table's primary key, or else from a unique index that can serve. A file
that is there is never overwritten.`,
		Example: fmt.Sprintf("  %s new users_email_lower --table public.users", a.Name),
		Args:    takes("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if table == "" {
				return usagef("new needs --table")
			}
			return a.newWork(cmd.Context(), args[0], table)
		},
	}
	cmd.Flags().StringVar(&table, "table", "", "table whose rows the work changes, as schema.table (public where no schema is named)")
	return cmd
}

func (a *app) newWork(ctx context.Context, name, written string) error {
	names, err := (&work.Work{Table: written}).TableName()
	if err != nil {
		return &inputError{err}
	}
	path := filepath.Join(a.config.WorksDir, name+".sql")
	if _, err := os.Stat(path); err == nil {
		return inputf("%s is there already; choose another name, or edit it", path)
	}
	var text string
	err = a.withConn(ctx, func(conn *pgx.Conn) error {
		table, cursor, err := findCursor(ctx, conn, names)
		if err == nil {
			text = work.Scaffold(name, table, cursor, false)
		}
		return err
	})
	if err != nil {
		return err
	}
	// Nothing is written that would not be read back: the name may be none for a work.
	if _, err := work.Parse(name, []byte(text)); err != nil {
		return err
	}
	if err := writeNewFile(path, text); err != nil {
		return err
	}
	fmt.Fprintln(a.Stdout, path)
	return nil
}

// writeNewFile makes the folder where there is none, and never overwrites.
func writeNewFile(path, text string) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return inputf("make the folder of works: %w", err)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	switch {
	case errors.Is(err, fs.ErrExist):
		return inputf("%s is there already; choose another name, or edit it", path)
	case err != nil:
		return inputf("write the work file: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := file.WriteString(text); err != nil {
		return fmt.Errorf("write the work file: %w", err)
	}
	return nil
}

// findCursor returns the table's name as SQL and the columns of the index to walk it by: the primary key where that can serve.
func findCursor(ctx context.Context, conn *pgx.Conn, names []string) (table string, cursor []string, err error) {
	if len(names) == 1 {
		names = []string{"public", names[0]}
	}
	queries := dbgen.New()
	target, err := queries.TargetFind(ctx, conn, dbgen.TargetFindParams{TableName: names[1], SchemaNames: names[:1]})
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil, inputf("there is no table %s in this database", work.WriteName(names...))
	}
	if err != nil {
		return "", nil, fmt.Errorf("look for table %s: %w", work.WriteName(names...), err)
	}
	if target.Kind != "r" && target.Kind != "p" {
		return "", nil, inputf("%s is no table whose rows can be changed in batches; only plain and partitioned tables are", work.WriteName(names...))
	}
	columns, err := queries.TargetListColumns(ctx, conn, target.TableOid)
	if err != nil {
		return "", nil, fmt.Errorf("list the columns of %s: %w", work.WriteName(names...), err)
	}
	indexes, err := queries.TargetListIndexes(ctx, conn, target.TableOid)
	if err != nil {
		return "", nil, fmt.Errorf("list the indexes of %s: %w", work.WriteName(names...), err)
	}
	for _, index := range indexes {
		if canBeCursor(index, columns) {
			return work.WriteName(names...), index.Columns, nil
		}
	}
	return "", nil, inputf("table %s has no index that can serve as a cursor: a valid unique btree index, not partial, on columns that are NOT NULL and of these "+
		"types: %s", work.WriteName(names...), strings.Join(work.KeyTypes(), ", "))
}

// canBeCursor is a first look for what enqueue examines closely.
func canBeCursor(index dbgen.TargetListIndexesRow, columns []dbgen.TargetListColumnsRow) bool {
	return index.Method == "btree" && index.IsUnique && index.IsValid && !index.IsPartial &&
		index.HasDefaultClasses && index.HasColumnCollations && index.HasOneDirection &&
		!slices.ContainsFunc(index.Columns, func(name string) bool {
			return !slices.ContainsFunc(columns, func(c dbgen.TargetListColumnsRow) bool {
				return c.Name == name && c.IsNotNull && work.KeyTypeAllowed(c.Type)
			})
		})
}
