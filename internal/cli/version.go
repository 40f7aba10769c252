package cli

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func (a *app) newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version, the commit and the Go version",
		Example: fmt.Sprintf("  %s version", a.Name),
		Args:    takes(),
		// Settings that cannot be read must not hide the version.
		PersistentPreRunE: withoutSettings,
		RunE: func(*cobra.Command, []string) error {
			version, commit := a.build()
			fmt.Fprintf(a.Stdout, "%s %s, commit %s, %s %s/%s\n", a.Name, version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		},
	}
}

// build returns the program's version and commit, as far as they are known.
func (a *app) build() (version, commit string) {
	version, commit = a.Version, "unknown"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return cmp.Or(version, "unknown"), commit
	}
	dirty := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = " (modified)"
		}
	}
	return cmp.Or(version, info.Main.Version, "unknown"), commit + dirty
}
