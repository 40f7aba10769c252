package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bbm-runner/bbm-runner/internal/control"
)

func (a *app) newDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "delete NAME...",
		Short:             "Forget finished or cancelled migrations and their history",
		Example:           fmt.Sprintf("  %s delete users_email_lower", a.Name),
		Args:              atLeastOne("a NAME"),
		ValidArgsFunction: a.completeMigrations("finished", "cancelled"),
		RunE: func(cmd *cobra.Command, names []string) error {
			ctx := cmd.Context()
			return a.withControl(ctx, nil, func(c *control.Control) error {
				return a.toEach(ctx, c, names, func(name string) (string, error) { return "deleted", c.Delete(ctx, name) })
			})
		},
	}
}
