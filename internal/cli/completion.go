package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/bbm-runner/bbm-runner/internal/control"
	"github.com/bbm-runner/bbm-runner/internal/session"
)

// completeTimeout is how long a person who pressed Tab may be kept waiting by a database.
const completeTimeout = 2 * time.Second

// addCompletion adds cobra's command, with an example for each shell.
func (a *app) addCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	completion, _, err := root.Find([]string{"completion"})
	if err != nil {
		return
	}
	completion.GroupID = groupInstall
	completion.RunE = needsSubcommand
	completion.Args = unknownCommand
	completion.Example = fmt.Sprintf("  %s completion bash > /etc/bash_completion.d/%[1]s", a.Name)
	completion.PersistentPreRunE = withoutSettings
	for _, shell := range completion.Commands() {
		shell.Example = fmt.Sprintf("  %s completion %s", a.Name, shell.Name())
	}
}

func (a *app) completeWorks(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 || a.loadConfig(cmd.Flags()) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	// Works that are whole are offered even where another file is broken.
	files, _ := a.workFiles()
	var names []cobra.Completion
	for _, w := range append(files, a.Works...) {
		names = append(names, cobra.CompletionWithDesc(w.Name, w.Description))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeMigrations offers the names of migrations in one of the statuses, or of all; nothing where the database does not answer at once.
func (a *app) completeMigrations(statuses ...string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
		defer cancel()
		if a.loadConfig(cmd.Flags()) != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		connConfig, err := a.connConfig()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		conn, err := session.Connect(ctx, connConfig, session.Config{CheckPooling: true})
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer func() { _ = conn.Close(ctx) }()
		// An error leaves no names, and there is nowhere to show it.
		names, _ := (&control.Control{Conn: conn}).Names(ctx, statuses...)
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
