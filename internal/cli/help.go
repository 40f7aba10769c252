package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bbm-runner/bbm-runner/internal/config"
)

// newHelpCommand is as strict about names as the commands themselves are; cobra's own prints everything and succeeds.
func (a *app) newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "Help about any command",
		Example: fmt.Sprintf("  %[1]s help enqueue\n  %[1]s help settings", a.Name),
		// The help has to be there when the settings are not right.
		PersistentPreRunE: withoutSettings,
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return unknownCommand(cmd.Root(), args)
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			about, _, err := cmd.Root().Find(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []cobra.Completion
			for _, c := range about.Commands() {
				if c.IsAvailableCommand() || c.IsAdditionalHelpTopicCommand() {
					names = append(names, cobra.CompletionWithDesc(c.Name(), c.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

// withoutSettings is for commands that need none, and so must not fail for a wrong one.
func withoutSettings(*cobra.Command, []string) error { return nil }

// newSettingsTopic is a page of help, not a command.
func newSettingsTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "settings",
		Short: "Settings: environment variables and the YAML file",
		Long: `A flag wins over an environment variable, that over the YAML file (--config or BBM_CONFIG), and that over the default. In the file a
setting has the variable's name without BBM_, in lower case. Durations are written as 250ms, 30s, 2h.

` + config.Help(),
	}
}
