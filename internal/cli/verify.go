package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bbm-runner/bbm-runner/internal/control"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

func (a *app) newVerifyCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify NAME",
		Short: "Look through the whole table for rows that a migration should have changed",
		Long: `Walks over the whole table of a migration, in small pieces, and counts the rows that its work has still to change: those for which the header "remaining" of
the work holds. Rows in quarantine are counted apart. It reads only, needs no slot and no runner, and changes neither the table nor the migration; it may be
repeated at any time.

Exit codes: 0 no row remains; 5 rows remain, be it in quarantine; 1 it failed; 2 wrong usage or input, such as a work without that header.`,
		Example: fmt.Sprintf(`  %[1]s verify users_email_lower
  %[1]s verify users_email_lower --json | jq .remaining_rows`, a.Name),
		Args:              takes("NAME"),
		ValidArgsFunction: a.completeMigrations(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.verify(cmd.Context(), args[0], asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one object")
	return cmd
}

func (a *app) verify(ctx context.Context, name string, asJSON bool) error {
	works, err := a.registryFor(name)
	if err != nil {
		return err
	}
	return a.withControl(ctx, works, func(c *control.Control) error {
		seen, done := a.showWalk()
		v, err := c.Verify(ctx, name, seen)
		done()
		if err != nil {
			return err
		}
		if v.OtherVersion != "" {
			a.warn("migration %q ran another version of the work (%s); this is judged by the present one", name, v.OtherVersion)
		}
		if asJSON {
			if err := a.printObject(v); err != nil {
				return err
			}
		} else {
			a.printVerified(v)
		}
		switch {
		case v.RemainingRows > 0:
			return &exitError{exitRemain, fmt.Errorf("%s of %s rows remain", remainText(v), count(v.Rows))}
		case v.LeftOutRemaining > 0:
			return &exitError{exitRemain, fmt.Errorf("of %s rows remain %s (see: %s quarantine list %s)", count(v.Rows), remainText(v), a.Name, v.Name)}
		}
		return nil
	})
}

// remainText says how many rows remain, and where: 0; 7; 7 and 4 in quarantine; none but 4 in
// quarantine.
func remainText(v control.Verified) string {
	switch {
	case v.LeftOutRemaining == 0:
		return count(v.RemainingRows)
	case v.RemainingRows == 0:
		return fmt.Sprintf("none but %s in quarantine", count(v.LeftOutRemaining))
	}
	return fmt.Sprintf("%s and %s in quarantine", count(v.RemainingRows), count(v.LeftOutRemaining))
}

func (a *app) printVerified(v control.Verified) {
	lines := [][2]string{
		{"work", v.Work},
		{"table", v.Table},
		{"remaining", v.Remaining},
		{"rows walked", count(v.Rows)},
		{"rows remain", remainText(v)},
	}
	if v.LeftOut > 0 {
		lines = append(lines, [2]string{"left out", fmt.Sprintf("%s, in quarantine", count(v.LeftOut))})
	}
	if v.RemainingRows > 0 {
		lines = append(lines, [2]string{"some of them", visible(work.DescribeKeys(v.RemainingKeys, v.RemainingRows))})
	}
	a.printLabelled(lines)
}

// showWalk shows to a person how far the walk is, in one line that is drawn over, and wiped when it is done.
func (a *app) showWalk() (seen func(control.Verified), done func()) {
	if !a.isLive(a.Stderr) {
		return nil, func() {}
	}
	const wipe = "\r\x1b[K"
	fmt.Fprint(a.Stderr, "looking for rows that remain")
	seen = func(v control.Verified) {
		fmt.Fprintf(a.Stderr, "%slooked at %s of ~%s rows, %s remain", wipe, count(v.Rows), count(max(v.Rows, v.EstimatedRows)), count(v.RemainingRows))
	}
	return seen, func() { fmt.Fprint(a.Stderr, wipe) }
}
