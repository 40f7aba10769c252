package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

// takes accepts exactly the named arguments.
func takes(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usagef("%s needs %s", cmd.Name(), strings.Join(names[len(args):], " and "))
		case len(args) > len(names) && len(names) == 0:
			return usagef("%s takes no argument, but got %q", cmd.Name(), args[0])
		case len(args) > len(names):
			return usagef("%s takes %s only; %q is one too many", cmd.Name(), strings.Join(names, " and "), args[len(names)])
		}
		return notEmpty(cmd, args)
	}
}

// atLeastOne accepts one argument or more.
func atLeastOne(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("%s needs %s", cmd.Name(), name)
		}
		return notEmpty(cmd, args)
	}
}

// atMostOne accepts one argument or none.
func atMostOne(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usagef("%s takes one %s; %q is one too many", cmd.Name(), name, args[1])
		}
		return notEmpty(cmd, args)
	}
}

// notEmpty refuses what a shell makes of an unset variable in quotes.
func notEmpty(cmd *cobra.Command, args []string) error {
	for _, arg := range args {
		if arg == "" {
			return usagef("an argument of %s is empty", cmd.Name())
		}
	}
	return nil
}

// unknownCommand refuses words after a command that only holds others.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	// Two edits is what cobra itself allows by default.
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usagef("unknown command %q; did you mean %q?", args[0], near[0])
	}
	return usagef("unknown command %q", args[0])
}

// needsSubcommand is the RunE of a command that only holds others.
func needsSubcommand(cmd *cobra.Command, _ []string) error {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return usagef("%s needs one of: %s", cmd.Name(), strings.Join(names, ", "))
}
