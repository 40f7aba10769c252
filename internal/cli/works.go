package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bbm-runner/bbm-runner/internal/work"
)

func (a *app) newWorksCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "works",
		Short: "Check and list the work files",
		Long: `Reads every work file and lists what it found. Needs no database. Each mistake is a line on standard error that begins with file:line, and
the exit code is then 2: made for editors and CI.`,
		Example: fmt.Sprintf("  %s works --works db/works", a.Name),
		Args:    takes(),
		RunE: func(*cobra.Command, []string) error {
			works, err := a.registry()
			if err != nil {
				return err
			}
			if len(works.All()) == 0 {
				fmt.Fprintf(a.Stderr, "there are no works in %q; make one: %s new NAME --table TABLE\n", a.config.WorksDir, a.Name)
				return nil
			}
			var rows [][]string
			for _, w := range works.All() {
				rows = append(rows, []string{w.Name, w.Table, work.WriteNames(w.Cursor), arguments(w), w.Checksum(), w.Description})
			}
			a.printTable(a.Stdout, []string{"WORK", "TABLE", "CURSOR", "ARGUMENTS", "CHECKSUM", "DESCRIPTION"}, rows)
			return nil
		},
	}
}

func arguments(w *work.Work) string {
	declared := make([]string, len(w.Arguments))
	for i, argument := range w.Arguments {
		declared[i] = argument.Name + " " + argument.Type
	}
	return strings.Join(declared, ", ")
}

// registry returns all works, those in files and those in Go. Where some are broken the error is a
// [*work.DirError] that lists them, and the registry holds the others.
func (a *app) registry() (*work.Registry, error) {
	files, err := a.workFiles()
	var broken, brokenToo *work.DirError
	if err != nil && !errors.As(err, &broken) {
		return nil, err
	}
	works, err := work.NewRegistry(append(files, a.Works...)...)
	switch {
	case broken == nil:
		return works, err
	case errors.As(err, &brokenToo):
		broken = &work.DirError{Works: append(broken.Works, brokenToo.Works...)}
	}
	return works, broken
}

// workFiles reads the folder of works. One that nobody asked for need not be there: a program may have works in Go only.
func (a *app) workFiles() ([]*work.Work, error) {
	files, err := work.LoadDir(a.config.WorksDir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && a.config.IsDefault("works_dir"):
		return nil, nil
	case err != nil && !isA[*work.DirError](err):
		var failed *fs.PathError
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return nil, inputf("%s: the folder of work files %q cannot be read: %w", a.config.Origin("works_dir"), a.config.WorksDir, err)
	}
	return files, err
}

// registryFor returns the works for a command that is about one of them: that another one is broken
// is a warning only.
func (a *app) registryFor(name string) (*work.Registry, error) {
	works, err := a.registry()
	var broken *work.DirError
	if !errors.As(err, &broken) {
		return works, err
	}
	for _, each := range broken.Works {
		if each.Name == name {
			return nil, &work.DirError{Works: []*work.BrokenWork{each}}
		}
	}
	for _, each := range broken.Works {
		a.warn("%w", each)
	}
	return works, nil
}

// worksToRun returns the works that can be executed, and those that are broken (nil: none), which
// are told to the log. Where all are broken there is nothing to start for: an error.
func (a *app) worksToRun(log *slog.Logger) (works *work.Registry, broken *work.DirError, err error) {
	works, err = a.registry()
	switch {
	case errors.As(err, &broken) && len(works.All()) > 0:
		for _, each := range broken.Works {
			log.Error("a broken work is left out; its migrations wait", "work", each.Name, "error", oneLine(each))
		}
	case err != nil:
		return nil, nil, err
	case len(works.All()) == 0:
		a.warn("there are no works in %q; nothing can be executed", a.config.WorksDir)
	}
	return works, broken, nil
}
