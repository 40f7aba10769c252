package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pressly/goose/v3"
	"github.com/spf13/cobra"

	"github.com/bbm-runner/bbm-runner/internal/control"
	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/schema"
)

func (a *app) newSchemaCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "schema",
		Short:   "Install, remove or inspect the tables of bbm-runner",
		Example: fmt.Sprintf("  %s schema up", a.Name),
		Args:    unknownCommand,
		RunE:    needsSubcommand,
	}
	var force bool
	down := &cobra.Command{
		Use:   "down",
		Short: "Remove all tables of bbm-runner, the history included",
		Long: `Removes all tables and functions from the PostgreSQL schema bbm, the history of every migration included. Refuses while a migration is unfinished.
The empty schema and goose's version table stay.`,
		Example: fmt.Sprintf("  %s schema down", a.Name),
		Args:    takes(),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.schemaDown(cmd.Context(), force) },
	}
	down.Flags().BoolVar(&force, "force", false, "even while a migration is unfinished")
	cmd.AddCommand(&cobra.Command{
		Use:     "up",
		Short:   "Bring the tables to the version of this binary",
		Long:    `Brings the tables to the version of this binary. May run in several processes at once, and changes nothing where all is done already.`,
		Example: fmt.Sprintf("  %s schema up", a.Name),
		Args:    takes(),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.schemaUp(cmd.Context()) },
	}, down, &cobra.Command{
		Use:     "status",
		Short:   "Show the version of the database and of this binary",
		Example: fmt.Sprintf("  %s schema status", a.Name),
		Args:    takes(),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.schemaStatus(cmd.Context()) },
	})
	return cmd
}

func (a *app) schemaUp(ctx context.Context) error {
	installed, latest, err := a.schemaVersions(ctx)
	if err != nil {
		return err
	}
	if installed > latest {
		return newerSchema(installed, latest)
	}
	connConfig, err := a.connConfig()
	if err != nil {
		return err
	}
	files, err := schema.Up(ctx, connConfig, a.tellWait)
	if err != nil {
		return err
	}
	a.printFiles("applied", files)
	fmt.Fprintf(a.Stdout, "schema bbm is at version %d\n", latest)
	return nil
}

func (a *app) schemaDown(ctx context.Context, force bool) error {
	installed, latest, err := a.schemaVersions(ctx)
	switch {
	case err != nil:
		return err
	case installed > latest:
		return newerSchema(installed, latest)
	case installed == 0:
		fmt.Fprintln(a.Stdout, "schema bbm is not installed")
		return nil
	case installed < latest && !force:
		return inputf("schema bbm is at version %d, this binary serves %d and cannot tell what is unfinished; run %s schema up first, or give --force",
			installed, latest, a.Name)
	case !force:
		if err := a.refuseUnfinished(ctx); err != nil {
			return err
		}
	}
	connConfig, err := a.connConfig()
	if err != nil {
		return err
	}
	files, err := schema.Down(ctx, connConfig, a.tellWait)
	if err != nil {
		return err
	}
	a.printFiles("undone", files)
	fmt.Fprintln(a.Stdout, "schema bbm is empty")
	return nil
}

// tellWait tells who holds a lock that is waited for.
func (a *app) tellWait(message string) { a.warn("%s", message) }

func (a *app) refuseUnfinished(ctx context.Context) error {
	return a.withControl(ctx, nil, func(c *control.Control) error {
		names, err := c.Unfinished(ctx)
		if err != nil || len(names) == 0 {
			return err
		}
		const most = 5
		if hidden := len(names) - most; hidden > 0 {
			names = append(names[:most], fmt.Sprintf("%d more", hidden))
		}
		return inputf("unfinished migrations would be forgotten half way: %s; cancel them first, or give --force", strings.Join(names, ", "))
	})
}

func (a *app) schemaStatus(ctx context.Context) error {
	installed, latest, err := a.schemaVersions(ctx)
	if err != nil {
		return err
	}
	pending, err := pendingFiles(installed)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.Stdout, "database  %d\nbinary    %d\n", installed, latest)
	if installed > latest {
		fmt.Fprintln(a.Stdout, "pending   none; the database is newer than this binary")
		return nil
	}
	if len(pending) == 0 {
		pending = []string{"none"}
	}
	for _, file := range pending {
		fmt.Fprintf(a.Stdout, "pending   %s\n", file)
	}
	return nil
}

// schemaVersions returns the version of the database, 0 where nothing is installed, and the one that this binary serves.
func (a *app) schemaVersions(ctx context.Context) (installed, latest int64, err error) {
	if latest, err = schema.Latest(); err != nil {
		return 0, 0, err
	}
	err = a.withConn(ctx, func(conn *pgx.Conn) error {
		installed, err = dbgen.New().SchemaVersion(ctx, conn)
		var refused *pgconn.PgError
		const undefinedTable, invalidSchemaName = "42P01", "3F000"
		if errors.As(err, &refused) && (refused.Code == undefinedTable || refused.Code == invalidSchemaName) {
			return nil
		}
		return err
	})
	return installed, latest, err
}

func newerSchema(installed, latest int64) error {
	return inputf("schema bbm is at version %d, newer than the %d of this binary; use the newer binary", installed, latest)
}

// pendingFiles returns the files above a version, in order.
func pendingFiles(installed int64) ([]string, error) {
	files, err := fs.Glob(schema.FS, "*.sql")
	if err != nil {
		return nil, err
	}
	var pending []string
	for _, file := range files {
		version, err := goose.NumericComponent(file)
		if err != nil {
			return nil, err
		}
		if version > installed {
			pending = append(pending, file)
		}
	}
	return pending, nil
}

func (a *app) printFiles(done string, files []string) {
	for _, file := range files {
		fmt.Fprintf(a.Stdout, "%s %s\n", done, file)
	}
}
