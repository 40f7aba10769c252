package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
)

// newTestApp is an app that no command has been run on.
func newTestApp() *app {
	return &app{Program: Program{Name: "bbm-runner", Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}}}
}

func walk(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, c := range cmd.Commands() {
		walk(c, visit)
	}
}

func TestEveryCommandHasAShortHelpAndAnExample(t *testing.T) {
	t.Parallel()
	count := 0
	walk(newTestApp().newRootCommand(), func(cmd *cobra.Command) {
		if !cmd.Runnable() {
			return // a page of help
		}
		count++
		assert.NotEmpty(t, cmd.Short, cmd.CommandPath())
		assert.False(t, strings.HasSuffix(cmd.Short, "."), cmd.CommandPath())
		assert.Contains(t, cmd.Example, "bbm-runner", cmd.CommandPath())
		assert.True(t, cmd.GroupID != "" || cmd.Parent() == nil || cmd.Parent().Name() != "bbm-runner", "%s is in no group", cmd.CommandPath())
	})
	assert.GreaterOrEqual(t, count, 25)
}

func TestEveryFlagIsExplained(t *testing.T) {
	t.Parallel()
	walk(newTestApp().newRootCommand(), func(cmd *cobra.Command) {
		assert.NotContains(t, cmd.LocalFlags().FlagUsages(), "\n\n", cmd.CommandPath())
	})
}
