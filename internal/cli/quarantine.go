package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bbm-runner/bbm-runner/internal/control"
)

func (a *app) newQuarantineCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "quarantine",
		Short: "List the rows that a migration left out, and try them again",
		Long: `A row that fails alone on its data is left out where the migration says on_row_error=quarantine: its key and what was wrong are kept, and the rest
goes on. Mend the row or the work, and have it tried again.`,
		Example: fmt.Sprintf(`  %[1]s set users_email_lower on_row_error=quarantine quarantine_limit=20
  %[1]s quarantine list users_email_lower
  %[1]s quarantine retry users_email_lower`, a.Name),
		Args: unknownCommand,
		RunE: needsSubcommand,
	}
	cmd.AddCommand(a.newQuarantineListCommand(), a.newQuarantineRetryCommand())
	return cmd
}

func (a *app) newQuarantineListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "list NAME",
		Short:             "List the rows that a migration left out",
		Example:           fmt.Sprintf("  %s quarantine list users_email_lower --json", a.Name),
		Args:              takes("NAME"),
		ValidArgsFunction: a.completeMigrations(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withControl(cmd.Context(), nil, func(c *control.Control) error {
				return a.streamRows(asJSON, quarantineHeadings, func(out *rows) error {
					return c.Quarantined(cmd.Context(), args[0], func(page []control.QuarantinedRow) error {
						return addRows(out, page, quarantineCells)
					})
				})
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print an array of rows under the names of the table's columns")
	return cmd
}

var quarantineHeadings = []string{"KEY", "FAILURES", "SINCE", "JOB", "TRIED BY", "ERROR"}

func quarantineCells(q control.QuarantinedRow) []string {
	triedBy := optional(q.RetryJobID, func(id int64) string { return fmt.Sprintf("job %d", id) })
	return []string{
		clip(keyText(q.RowKey), longKey), fmt.Sprint(q.Failures), instant(q.CreatedAt), fmt.Sprint(q.JobID), triedBy,
		exceptionText(&q.ExceptionClass, nil, q.ExceptionConstraint, &q.ExceptionMessage),
	}
}

func (a *app) newQuarantineRetryCommand() *cobra.Command {
	var (
		reason     string
		acceptWork bool
	)
	cmd := &cobra.Command{
		Use:   "retry NAME",
		Short: "Have the rows that a migration left out tried again",
		Long: `Makes a job for each row that was left out, about that row alone. A finished migration is active until they have ended, and then finished again; one that
has failed goes on by retry. A row that is changed, or is gone, leaves the quarantine; one that fails again comes back.`,
		Example:           fmt.Sprintf("  %s quarantine retry users_email_lower", a.Name),
		Args:              takes("NAME"),
		ValidArgsFunction: a.completeMigrations("paused", "active", "running", "finished", "failed"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.retryQuarantined(cmd.Context(), args[0], reason, acceptWork)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; kept in the history")
	cmd.Flags().BoolVar(&acceptWork, "accept-work", false, "of a finished migration: go on with the work as it is now, though it was changed")
	return cmd
}

func (a *app) retryQuarantined(ctx context.Context, name, reason string, acceptWork bool) error {
	works, err := a.registryToAccept(acceptWork)
	if err != nil {
		return err
	}
	return a.withControl(ctx, works, func(c *control.Control) error {
		rows, err := c.RetryQuarantined(ctx, name, reason, acceptWork)
		if err != nil {
			return err
		}
		now, err := c.Status(ctx, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(a.lines(), "%s %s, %s of %s rows to be tried again\n", name, now[0].Status, count(rows), count(max(rows, now[0].LeftOut)))
		if now[0].Status == "failed" && now[0].LeftOut > 0 {
			a.warn("migration %q has failed; set it going again with: %s retry %s", name, a.Name, name)
		}
		return nil
	})
}
