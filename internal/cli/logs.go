package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/bbm-runner/bbm-runner/internal/control"
)

func (a *app) newLogsCommand() *cobra.Command {
	var asJSON, ofMigration, ofSettings, ofFleet bool
	cmd := &cobra.Command{
		Use:   "logs NAME | --fleet",
		Short: "Show the history of a migration and of its jobs, or of the fleet",
		Long: `Shows every change of status: those of the migration and of its settings, with who made them and why, those of its jobs, with what went wrong, and the
rows that were left out (quarantine list NAME --json has them as JSON).
--json prints those of the jobs; with --migration those of the migration itself, with --settings those of its settings. --fleet shows the changes of what
holds for all runners: the flag and the slots.

Who is what the client says; "as ROLE" beside it is the role by which it connected, where that is another.`,
		Example: fmt.Sprintf(`  %[1]s logs users_email_lower
  %[1]s logs users_email_lower --json
  %[1]s logs users_email_lower --migration
  %[1]s logs --fleet`, a.Name),
		Args: func(cmd *cobra.Command, args []string) error {
			if ofFleet {
				return takes()(cmd, args)
			}
			return takes("NAME")(cmd, args)
		},
		ValidArgsFunction: a.completeMigrations(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withControl(cmd.Context(), nil, func(c *control.Control) error {
				switch {
				case ofFleet:
					return a.fleetLogs(cmd.Context(), c, asJSON)
				case ofSettings:
					return a.settingLogs(cmd.Context(), c, args[0], asJSON)
				}
				return a.logs(cmd.Context(), c, args[0], asJSON, ofMigration)
			})
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&asJSON, "json", false, "print an array of rows under the names of the table's columns")
	flags.BoolVar(&ofMigration, "migration", false, "only the changes of the migration's own status")
	flags.BoolVar(&ofSettings, "settings", false, "only the changes of the migration's settings")
	flags.BoolVar(&ofFleet, "fleet", false, "the changes of what holds for all runners")
	cmd.MarkFlagsMutuallyExclusive("migration", "settings", "fleet")
	return cmd
}

var (
	logHeadings     = []string{"TIME", "JOB", "FROM", "TO", "ATTEMPT", "DETAILS"}
	settingHeadings = []string{"TIME", "SETTING", "FROM", "TO", "DETAILS"}
)

func (a *app) fleetLogs(ctx context.Context, c *control.Control, asJSON bool) error {
	changes, err := c.FleetChanges(ctx)
	if err != nil {
		return err
	}
	return a.streamRows(asJSON, settingHeadings, func(out *rows) error { return addRows(out, changes, settingCells) })
}

func (a *app) settingLogs(ctx context.Context, c *control.Control, name string, asJSON bool) error {
	changes, err := c.SettingChanges(ctx, name)
	if err != nil {
		return err
	}
	return a.streamRows(asJSON, settingHeadings, func(out *rows) error { return addRows(out, changes, settingCells) })
}

// logs merges the histories by time; those of the migration, of its settings and of its quarantine
// are short, so they are held whole.
func (a *app) logs(ctx context.Context, c *control.Control, name string, asJSON, ofMigration bool) error {
	own, err := c.MigrationLogs(ctx, name)
	if err != nil {
		return err
	}
	changes, err := c.SettingChanges(ctx, name)
	if err != nil {
		return err
	}
	leftOut, err := c.QuarantineHistory(ctx, name)
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
		events := ownEvents(own, changes, leftOut)
		err := c.Logs(ctx, name, func(page []control.LogRow) error {
			lines := make([][]string, 0, len(page))
			for _, row := range page {
				// What one transaction did to both began with the migration.
				for len(events) > 0 && !events[0].at.After(row.CreatedAt) {
					lines = append(lines, events[0].cells)
					events = events[1:]
				}
				lines = append(lines, jobLogCells(row))
			}
			out.columns.print(lines)
			return nil
		})
		if err != nil {
			return err
		}
		return addRows(out, events, func(e ownEvent) []string { return e.cells })
	})
}

// ownEvent is a line of the history that is about no job's status.
type ownEvent struct {
	at    time.Time
	cells []string
}

// ownEvents merges what happened to a migration's status, to its settings and to rows of its table.
func ownEvents(own []control.MigrationLogRow, changes []control.SettingChange, leftOut []control.QuarantinedRow) []ownEvent {
	events := make([]ownEvent, 0, len(own)+len(changes))
	for _, row := range own {
		events = append(events, ownEvent{row.CreatedAt, migrationLogCells(row)})
	}
	for _, change := range changes {
		cells := settingCells(change)
		events = append(events, ownEvent{change.CreatedAt, []string{cells[0], "", cells[2], cells[3], "", change.Setting + " set " + cells[4]}})
	}
	for _, row := range leftOut {
		events = append(events, rowEvents(row)...)
	}
	slices.SortStableFunc(events, func(a, b ownEvent) int { return a.at.Compare(b.at) })
	return events
}

// rowEvents tells when a row was first left out, and when it was changed after all. What it failed
// on is known of the last time alone.
func rowEvents(q control.QuarantinedRow) []ownEvent {
	details := exceptionText(&q.ExceptionClass, q.RowKey, q.ExceptionConstraint, &q.ExceptionMessage)
	if q.Failures > 1 {
		details = fmt.Sprintf("%d times; the last: %s", q.Failures, details)
	}
	events := []ownEvent{{q.CreatedAt, []string{instant(q.CreatedAt), fmt.Sprint(q.JobID), "", "left out", "", details}}}
	if q.MendedAt != nil {
		details = fmt.Sprintf("the row (%s) was changed after all, or is gone", clip(keyText(q.RowKey), longKey))
		events = append(events, ownEvent{*q.MendedAt, []string{instant(*q.MendedAt), "", "left out", "mended", "", details}})
	}
	return events
}

func jobLogCells(l control.LogRow) []string {
	return []string{
		instant(l.CreatedAt), fmt.Sprint(l.JobID), optional(l.PreviousStatus, verbatim), l.NextStatus,
		fmt.Sprint(l.Attempt), exceptionText(l.ExceptionClass, l.ExceptionKey, l.ExceptionConstraint, l.ExceptionMessage),
	}
}

func migrationLogCells(l control.MigrationLogRow) []string {
	return []string{instant(l.CreatedAt), "", optional(l.PreviousStatus, verbatim), l.NextStatus, "", byWhom(l.ChangedBy, l.SessionRole, l.Reason)}
}

func settingCells(s control.SettingChange) []string {
	return []string{
		instant(s.CreatedAt), s.Setting, optional(s.OldValue, verbatim), optional(s.NewValue, verbatim), byWhom(s.ChangedBy, &s.SessionRole, s.Reason),
	}
}

// byWhom says who made a change, by which role where that is another, and why.
func byWhom(changedBy string, role, reason *string) string {
	details := "by " + changedBy
	if role != nil && *role != changedBy {
		details += " as " + *role
	}
	if reason != nil {
		details += ": " + clip(*reason, longText)
	}
	return details
}
