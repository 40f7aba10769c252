package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) newDisableCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:     "disable --reason REASON",
		Short:   "Turn execution off for the whole fleet, within one sub-batch",
		Example: fmt.Sprintf(`  %s disable --reason "replica lag, see the incident channel"`, a.Name),
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if reason == "" {
				return usagef("disable needs --reason: whoever finds the fleet standing still wants to know why")
			}
			return a.setEnabled(cmd, false, reason)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; shown by status")
	return cmd
}
