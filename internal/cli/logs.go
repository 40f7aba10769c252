package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bbm-runner/bbm-runner/internal/control"
)

func (a *app) newLogsCommand() *cobra.Command {
	var asJSON, ofMigration bool
	cmd := &cobra.Command{
		Use:   "logs NAME",
		Short: "Show the history of a migration and of its jobs",
		Long: `Shows every change of status: those of the migration, with who made them and why, and those of its jobs, with what went wrong. --json prints those
of the jobs; with --migration those of the migration itself.`,
		Example: fmt.Sprintf(`  %[1]s logs users_email_lower
  %[1]s logs users_email_lower --json
  %[1]s logs users_email_lower --migration`, a.Name),
		Args:              takes("NAME"),
		ValidArgsFunction: a.completeMigrations(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withControl(cmd.Context(), nil, func(c *control.Control) error {
				return a.logs(cmd.Context(), c, args[0], asJSON, ofMigration)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print an array of rows under the names of the table's columns")
	cmd.Flags().BoolVar(&ofMigration, "migration", false, "only the changes of the migration itself")
	return cmd
}

var logHeadings = []string{"TIME", "JOB", "FROM", "TO", "ATTEMPT", "DETAILS"}

// logs merges the two histories by time; the migration's own is short, so it is held whole.
func (a *app) logs(ctx context.Context, c *control.Control, name string, asJSON, ofMigration bool) error {
	own, err := c.MigrationLogs(ctx, name)
	if err != nil {
		return err
	}
	return a.streamRows(asJSON, logHeadings, func(out *rows) error {
		switch {
		case ofMigration:
			return addRows(out, own, migrationLogCells)
		case asJSON:
			return c.Logs(ctx, name, func(page []control.LogRow) error { return addRows(out, page, jobLogCells) })
		}
		err := c.Logs(ctx, name, func(page []control.LogRow) error {
			lines := make([][]string, 0, len(page))
			for _, row := range page {
				// What one transaction did to both began with the migration.
				for len(own) > 0 && !own[0].CreatedAt.After(row.CreatedAt) {
					lines = append(lines, migrationLogCells(own[0]))
					own = own[1:]
				}
				lines = append(lines, jobLogCells(row))
			}
			out.columns.print(lines)
			return nil
		})
		if err != nil {
			return err
		}
		return addRows(out, own, migrationLogCells)
	})
}

func jobLogCells(l control.LogRow) []string {
	return []string{
		instant(l.CreatedAt), fmt.Sprint(l.JobID), optional(l.PreviousStatus, verbatim), l.NextStatus,
		fmt.Sprint(l.Attempt), exceptionText(l.ExceptionClass, l.ExceptionKey, l.ExceptionConstraint, l.ExceptionMessage),
	}
}

func migrationLogCells(l control.MigrationLogRow) []string {
	details := "by " + l.ChangedBy
	if l.Reason != nil {
		details += ": " + clip(*l.Reason, longText)
	}
	return []string{instant(l.CreatedAt), "", optional(l.PreviousStatus, verbatim), l.NextStatus, "", details}
}
