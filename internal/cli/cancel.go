package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/bbm-runner/bbm-runner/internal/control"
)

func (a *app) newCancelCommand() *cobra.Command {
	return a.newTransitionCommand(transition{
		verb:  "cancel",
		short: "Stop migrations for good; what they changed stays",
		from:  []string{"paused", "active", "running"},
		apply: func(ctx context.Context, c *control.Control, name, reason string, _ bool) error {
			return c.Cancel(ctx, name, reason)
		},
	})
}
