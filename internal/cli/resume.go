package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/bbm-runner/bbm-runner/internal/control"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

func (a *app) newResumeCommand() *cobra.Command {
	return a.newTransitionCommand(transition{
		verb:  "resume",
		short: "Let paused migrations go on, and lift holds",
		long: `Lets a paused migration go on from where it stopped, lifts a hold before its time, and tries failed jobs again at once. Where the work was changed since the enqueue, runners that
have the new version leave the migration alone until it is resumed with --accept-work.`,
		from:        []string{"paused"},
		acceptsWork: true,
		apply: func(ctx context.Context, c *control.Control, name, reason string, acceptWork bool) error {
			return c.Resume(ctx, name, reason, acceptWork)
		},
	})
}

// registryToAccept returns the works only where one is to be adopted: other commands work without
// the files. That others are broken is a warning.
func (a *app) registryToAccept(acceptWork bool) (*work.Registry, error) {
	if !acceptWork {
		return nil, nil
	}
	return a.registryFor("")
}
