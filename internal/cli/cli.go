// Package cli is the command line: one file per command. Commands parse, call internal/control or internal/runner, and print.
//
// Standard output carries results only. Standard error carries the log, warnings, and an error as one plain line.
package cli

import (
	"cmp"
	"context"
	"io"
	"os"

	"github.com/bbm-runner/bbm-runner/internal/config"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// Program is one call of the command line.
type Program struct {
	Name    string       // as the user calls it, in hints too; default bbm-runner
	Version string       // default: what the Go toolchain recorded
	Args    []string     // without the program's name
	Environ []string     // as os.Environ returns it, which is the default
	Works   []*work.Work // works in Go, added to those in files

	Stdin          io.Reader // default os.Stdin
	Stdout, Stderr io.Writer // default os.Stdout and os.Stderr
}

// app is what the commands share while one of them runs.
type app struct {
	Program
	config  *config.Config // loaded before a command runs
	signals *signals
	command string // that runs
	isQuiet bool   // nothing is shown while it waits
}

// Run executes one command and returns the exit code: 0 done; 1 failed; 2 wrong usage or input; 3 wait: a migration failed or was cancelled;
// 4 wait: time ran out. The first SIGINT or SIGTERM ends ctx.
func Run(ctx context.Context, p Program) int {
	p.Name = cmp.Or(p.Name, canonicalName)
	if p.Environ == nil {
		p.Environ = os.Environ()
	}
	if p.Stdin == nil {
		p.Stdin = os.Stdin
	}
	if p.Stdout == nil {
		p.Stdout = os.Stdout
	}
	if p.Stderr == nil {
		p.Stderr = os.Stderr
	}
	commands := p.callByOwnName()
	a := &app{Program: p}
	ctx, a.signals = catchSignals(ctx)
	defer a.signals.release()

	root := a.newRootCommand()
	for _, command := range root.Commands() {
		commands[command.Name()] = true
	}
	// A nil slice would make cobra read os.Args.
	root.SetArgs(append([]string{}, p.Args...))
	command, err := root.ExecuteContextC(ctx)
	return a.report(command, err)
}
