package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bbm-runner/bbm-runner/internal/control"
)

func (a *app) newDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "delete NAME",
		Short:             "Forget a finished or cancelled migration and its history",
		Example:           fmt.Sprintf("  %s delete users_email_lower", a.Name),
		Args:              takes("NAME"),
		ValidArgsFunction: a.completeMigrations("finished", "cancelled"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withControl(cmd.Context(), nil, func(c *control.Control) error {
				if err := c.Delete(cmd.Context(), args[0]); err != nil {
					return err
				}
				fmt.Fprintf(a.lines(), "%s deleted\n", args[0])
				return nil
			})
		},
	}
}
