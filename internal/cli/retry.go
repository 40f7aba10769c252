package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/bbm-runner/bbm-runner/internal/control"
)

func (a *app) newRetryCommand() *cobra.Command {
	return a.newTransitionCommand(transition{
		verb:  "retry",
		short: "Set failed migrations going again",
		long: `Sets a failed migration going again from where it stopped; its jobs get all their attempts anew. Where the work was mended, give --accept-work to go
on with it as it is now.`,
		from:        []string{"failed"},
		acceptsWork: true,
		apply: func(ctx context.Context, c *control.Control, name, reason string, acceptWork bool) error {
			return c.Retry(ctx, name, reason, acceptWork)
		},
	})
}
