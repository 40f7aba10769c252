package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bbm-runner/bbm-runner/internal/control"
)

func (a *app) newPauseCommand() *cobra.Command {
	return a.newTransitionCommand(transition{
		verb:  "pause",
		short: "Stop migrations within one sub-batch, until resumed",
		from:  []string{"active", "running"},
		apply: func(ctx context.Context, c *control.Control, name, reason string, _ bool) error {
			return c.Pause(ctx, name, reason)
		},
	})
}

// transition is a command that changes the status of migrations.
type transition struct {
	verb        string
	short, long string
	from        []string // the statuses that --all means
	acceptsWork bool     // takes --accept-work
	apply       func(ctx context.Context, c *control.Control, name, reason string, acceptWork bool) error
}

func (a *app) newTransitionCommand(t transition) *cobra.Command {
	var (
		all, acceptWork bool
		reason          string
	)
	cmd := &cobra.Command{
		Use:   t.verb + " NAME... | --all",
		Short: t.short,
		Long:  t.long,
		Example: fmt.Sprintf(`  %[1]s %[2]s users_email_lower --reason "see the incident of today"
  %[1]s %[2]s --all`, a.Name, t.verb),
		ValidArgsFunction: a.completeMigrations(t.from...),
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case all && len(args) > 0:
				return usagef("%s takes names or --all, not both", t.verb)
			case !all && len(args) == 0:
				return usagef("%s needs a NAME, or --all", t.verb)
			}
			return notEmpty(cmd, args)
		},
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.transit(cmd.Context(), t, names, reason, acceptWork)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every migration that it applies to")
	cmd.Flags().StringVar(&reason, "reason", "", "why; shown by status and kept in the history")
	if t.acceptsWork {
		cmd.Flags().BoolVar(&acceptWork, "accept-work", false, "go on with the work as it is now, though it was changed since the enqueue")
	}
	return cmd
}

// transit applies a transition to each migration, or to all where no name is given.
func (a *app) transit(ctx context.Context, t transition, names []string, reason string, acceptWork bool) error {
	works, err := a.registryToAccept(acceptWork)
	if err != nil {
		return err
	}
	return a.withControl(ctx, works, func(c *control.Control) error {
		if len(names) == 0 {
			if names, err = c.Names(ctx, t.from...); err != nil || len(names) == 0 {
				return err
			}
		}
		return a.toEach(ctx, c, names, func(name string) (string, error) {
			if err := t.apply(ctx, c, name, reason, acceptWork); err != nil {
				return "", err
			}
			now, err := c.Status(ctx, name)
			if err != nil {
				return "", err
			}
			return now[0].Status, nil
		})
	})
}

// toEach does something to each migration and prints what has become of it. A name that does not
// exist is noticed before anything is changed; what one migration refuses does not keep the others
// from theirs.
func (a *app) toEach(ctx context.Context, c *control.Control, names []string, do func(name string) (became string, err error)) error {
	if _, err := c.Status(ctx, names...); err != nil {
		return err
	}
	var refused []error
	for _, name := range names {
		became, err := do(name)
		if err != nil {
			refused = append(refused, err)
			continue
		}
		fmt.Fprintf(a.lines(), "%s %s\n", name, became)
	}
	return errors.Join(refused...)
}
