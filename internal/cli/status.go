package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bbm-runner/bbm-runner/internal/control"
)

func (a *app) newStatusCommand() *cobra.Command {
	var asJSON, watch bool
	cmd := &cobra.Command{
		Use:   "status [NAME]",
		Short: "Show how far migrations are, how fast they go and why they wait",
		Long: `Shows all migrations, or one with all its details. With --watch it goes on showing until none of those shown can proceed any more (finished,
failed or cancelled), or until Ctrl-C: bars on a terminal, a line for each change in a pipe, with --json an array in a line for each change.`,
		Example: fmt.Sprintf(`  %[1]s status
  %[1]s status users_email_lower
  %[1]s status --watch
  %[1]s status --json | jq '.[] | select(.status == "failed")'`, a.Name),
		Args:              atMostOne("NAME"),
		ValidArgsFunction: a.completeMigrations(),
		RunE: func(cmd *cobra.Command, names []string) error {
			ctx := cmd.Context()
			return a.withControl(ctx, nil, func(c *control.Control) error {
				if watch {
					return a.watch(ctx, c, names, asJSON)
				}
				return a.status(ctx, c, names, asJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print an array of objects; their fields are a contract")
	cmd.Flags().BoolVar(&watch, "watch", false, "go on showing what changes")
	return cmd
}

func (a *app) status(ctx context.Context, c *control.Control, names []string, asJSON bool) error {
	migrations, err := c.Status(ctx, names...)
	switch {
	case err != nil:
		return err
	case asJSON:
		return printJSON(a.Stdout, migrations)
	case len(names) == 1:
		a.printMigration(migrations[0])
	default:
		a.printMigrations(migrations)
	}
	return nil
}

func (a *app) printMigrations(migrations []control.Migration) {
	if len(migrations) == 0 {
		fmt.Fprintf(a.Stderr, "there are no migrations; create one: %s enqueue WORK\n", a.Name)
		return
	}
	rows := make([][]string, len(migrations))
	for i, m := range migrations {
		rows[i] = []string{m.Name, m.Status, percent(m.Progress), rowsOf(m), rateOf(m), leftOf(m), reason(m)}
	}
	a.printTable(a.Stdout, []string{"NAME", "STATUS", "PROGRESS", "ROWS", "RATE", "LEFT", "WHY"}, rows)
}

// reason says why a migration is not progressing, or nothing where it is.
func reason(m control.Migration) string {
	switch {
	case m.Failure != nil:
		return visible(fmt.Sprintf("%s: %s", m.Failure.Code, m.Failure.Message))
	case m.WaitingFor != nil:
		return *m.WaitingFor
	case m.Hold != nil:
		return fmt.Sprintf("on hold until %s: %s", instant(m.Hold.Until), m.Hold.Reason)
	case m.Verification != nil:
		return verifying(*m.Verification)
	case m.LeftOut > 0:
		return leftOut(m)
	}
	return ""
}

// leftOut says how many rows were left out, and where they are listed; "" for none.
func leftOut(m control.Migration) string {
	switch m.LeftOut {
	case 0:
		return ""
	case 1:
		return "1 row left out (see: bbm-runner quarantine list " + m.Name + ")"
	}
	return fmt.Sprintf("%s rows left out (see: bbm-runner quarantine list %s)", count(m.LeftOut), m.Name)
}

// verifying says how far the walk for rows that remain is.
func verifying(v control.Verification) string {
	text := fmt.Sprintf("verifying, pass %d, %s", v.Pass, percent(v.Progress))
	if v.RemainingRows > 0 {
		text += fmt.Sprintf(", %s rows remain so far", count(v.RemainingRows))
	}
	return text
}

// rowsOf says how many rows are processed; the total is an estimate until the end.
func rowsOf(m control.Migration) string {
	if m.Status == "finished" || m.TotalRows == 0 {
		return count(m.ProcessedRows)
	}
	return fmt.Sprintf("%s of ~%s", count(m.ProcessedRows), count(m.TotalRows))
}

func rateOf(m control.Migration) string { return optional(m.RowsPerSecond, perSecond) }

func leftOf(m control.Migration) string {
	return optional(m.ETASeconds, func(s int64) string { return span(seconds(s)) })
}

// canProceed reports whether the migration may still change without anybody's order.
func canProceed(m control.Migration) bool {
	return m.Status == "active" || m.Status == "running" || m.Status == "paused"
}
