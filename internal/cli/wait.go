package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bbm-runner/bbm-runner/internal/control"
)

func (a *app) newWaitCommand() *cobra.Command {
	var (
		timeout  time.Duration
		isStrict bool
	)
	cmd := &cobra.Command{
		Use:   "wait NAME...",
		Short: "Block until migrations are finished; for deploy pipelines",
		Long: `Waits until all the migrations are finished (exit code 0), or until one of them has failed or was cancelled (3), or until time runs out (4). Shows a
bar on a terminal; in a pipe a line for each change of status or reason, and for each tenth of the rows. A migration that left rows out, in quarantine, is
finished all the same; with --strict that ends with 3: what follows may need every row, as SET NOT NULL does.`,
		Example: fmt.Sprintf(`  %[1]s wait users_email_lower --timeout 30m
  %[1]s wait users_email_lower --strict`, a.Name),
		Args:              atLeastOne("a NAME"),
		ValidArgsFunction: a.completeMigrations(),
		RunE: func(cmd *cobra.Command, names []string) error {
			if timeout < 0 {
				return usagef("--timeout is %s; give a positive duration, or 0 for no limit", timeout)
			}
			return a.wait(cmd.Context(), names, timeout, isStrict)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "the longest wait (default 0: no limit)")
	cmd.Flags().BoolVar(&a.isQuiet, "quiet", false, "show nothing; the exit code tells, and a line on standard error why it is not 0")
	cmd.Flags().BoolVar(&isStrict, "strict", false, "fail where rows are left out, in quarantine")
	return cmd
}

func (a *app) wait(ctx context.Context, names []string, timeout time.Duration, isStrict bool) error {
	waitCtx, cancel := ctx, func() {}
	if timeout > 0 {
		waitCtx, cancel = context.WithTimeout(ctx, timeout)
	}
	defer cancel()
	view := a.newView(false)
	latest, err := a.waitThroughRestarts(waitCtx, names, view.show)
	view.close()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(waitCtx.Err(), context.DeadlineExceeded) && err != nil:
		return &exitError{exitTimedOut, fmt.Errorf("not finished after %s: %s", timeout, unfinished(latest, names))}
	case err != nil:
		return err
	}
	if given := unsuccessful(latest, isStrict); given != "" {
		return &exitError{exitNotDone, errors.New(given)}
	}
	return nil
}

// waitThroughRestarts waits on one connection after the other: a gate of a deploy must not fail because the server was restarted meanwhile. A server that
// cannot be reached at first is an error at once.
func (a *app) waitThroughRestarts(
	ctx context.Context, names []string, show func([]control.Migration),
) (latest []control.Migration, err error) {
	for {
		err = a.withControl(ctx, nil, func(c *control.Control) error {
			_, err := c.Wait(ctx, names, watchInterval, func(migrations []control.Migration) {
				latest = migrations
				show(migrations)
			})
			return err
		})
		wasConnected := latest != nil
		if err == nil || ctx.Err() != nil || !wasConnected || errors.Is(err, control.ErrNotFound) {
			return latest, err
		}
		a.warn("the connection was lost; waiting goes on: %s", oneLine(err))
		select {
		case <-ctx.Done():
			return latest, ctx.Err()
		case <-time.After(watchInterval):
		}
	}
}

// unfinished lists the migrations that are not there yet, in a few words each.
func unfinished(latest []control.Migration, names []string) string {
	var open []string
	for _, m := range latest {
		if m.Status != "finished" {
			open = append(open, fmt.Sprintf("%s is %s", m.Name, summary(m)))
		}
	}
	if open == nil {
		return strings.Join(names, ", ")
	}
	return strings.Join(open, "; ")
}

// unsuccessful lists the migrations that will not finish unless somebody acts; where it is strict,
// those too that left rows out.
func unsuccessful(latest []control.Migration, isStrict bool) string {
	var given []string
	for _, m := range latest {
		switch {
		case m.Status == "finished" && m.LeftOut > 0 && isStrict:
			given = append(given, fmt.Sprintf("%s is finished, but with %s", m.Name, leftOut(m)))
		case m.Status == "failed":
			given = append(given, fmt.Sprintf("%s failed: %s", m.Name, reason(m)))
		case m.Status == "cancelled":
			given = append(given, fmt.Sprintf("%s was cancelled", m.Name))
		}
	}
	return strings.Join(given, "; ")
}
