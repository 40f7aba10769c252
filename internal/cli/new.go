package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

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
		if len(names) == 1 {
			names = []string{"public", names[0]}
		}
		table := work.WriteName(names...)
		cursor, err := work.SuggestCursor(ctx, conn, table, nil)
		if err != nil {
			return err
		}
		if strings.ContainsFunc(table+work.WriteNames(cursor), func(r rune) bool { return unicode.IsControl(r) && r != '\t' }) {
			return inputf("the name of table %s or of its key has a line break or a control character, which no work file can hold; write the work in Go", table)
		}
		text = work.Scaffold(name, table, cursor, false)
		return nil
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
	fmt.Fprintln(a.lines(), path)
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
