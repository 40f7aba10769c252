package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bbm-runner/bbm-runner/internal/control"
)

func (a *app) newEnableCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:     "enable",
		Short:   "Turn execution on for the whole fleet",
		Long:    `Turns the fleet's feature flag on. A runner executes only where its own parameter is on too (BBM_ENABLED=true).`,
		Example: fmt.Sprintf("  %s enable", a.Name),
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.setEnabled(cmd, true, reason)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; shown by status")
	return cmd
}

func (a *app) setEnabled(cmd *cobra.Command, on bool, reason string) error {
	return a.withControl(cmd.Context(), nil, func(c *control.Control) error {
		if err := c.SetEnabled(cmd.Context(), on, reason); err != nil {
			return err
		}
		fmt.Fprintf(a.Stdout, "execution %sd\n", cmd.Name())
		return nil
	})
}
