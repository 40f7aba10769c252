package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bbm-runner/bbm-runner/internal/config"
	"github.com/bbm-runner/bbm-runner/internal/control"
	"github.com/bbm-runner/bbm-runner/internal/work"
	"github.com/bbm-runner/bbm-runner/schema"
)

// The exit codes are a contract with deploy pipelines.
const (
	exitDone     = 0
	exitFailed   = 1
	exitInput    = 2
	exitNotDone  = 3 // wait: a migration failed or was cancelled, or (--strict) left rows out
	exitTimedOut = 4 // wait: time ran out
	exitRemain   = 5 // verify: rows remain
)

// usageError is returned when the command line itself is wrong; the message is followed by where to read how it is right.
type usageError struct {
	msg string
}

func (e *usageError) Error() string { return e.msg }

func usagef(format string, values ...any) error {
	return &usageError{fmt.Sprintf(format, values...)}
}

// inputError is returned when what the command line names cannot be used.
type inputError struct {
	err error
}

func (e *inputError) Error() string { return e.err.Error() }
func (e *inputError) Unwrap() error { return e.err }

func inputf(format string, values ...any) error {
	return &inputError{fmt.Errorf(format, values...)}
}

// exitError ends the program with a code of its own. Without err there is nothing to print.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// report prints the error and returns the exit code. Each mistake in a work file is a line that begins with file:line, for editors; every
// other error is one line.
func (a *app) report(command *cobra.Command, err error) int {
	if err == nil {
		return exitDone
	}
	var (
		exit   *exitError
		usage  *usageError
		broken *work.DirError
		file   *work.ParseError
	)
	switch {
	case errors.As(err, &exit) && exit.err == nil:
	case errors.As(err, &usage):
		fmt.Fprintf(a.Stderr, "%s: %s (see: %s --help)\n", a.Name, oneLine(err), command.CommandPath())
	case errors.As(err, &broken):
		for _, each := range broken.Works {
			fmt.Fprintln(a.Stderr, oneLine(each))
		}
	case errors.As(err, &file):
		fmt.Fprintln(a.Stderr, oneLine(file))
	case errors.Is(err, context.Canceled):
		fmt.Fprintf(a.Stderr, "%s: interrupted\n", a.Name)
	default:
		fmt.Fprintf(a.Stderr, "%s: %s\n", a.Name, oneLine(err))
	}
	return exitCode(err)
}

func exitCode(err error) int {
	var exit *exitError
	if errors.As(err, &exit) {
		return exit.code
	}
	if errors.Is(err, control.ErrNotFound) || errors.Is(err, schema.ErrVersion) ||
		isA[*usageError](err) || isA[*inputError](err) ||
		isA[*config.InputError](err) || isA[*control.InputError](err) ||
		isA[*work.ParseError](err) || isA[*work.DirError](err) || isA[*work.DefinitionError](err) {
		return exitInput
	}
	return exitFailed
}

func isA[T error](err error) bool {
	var target T
	return errors.As(err, &target)
}

// oneLine joins the lines of a message, each said once: a driver repeats itself for each address that it tried.
func oneLine(err error) string {
	var lines []string
	for line := range strings.Lines(err.Error()) {
		line = visible(strings.TrimSpace(line))
		if line != "" && !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return config.RedactText(strings.Join(lines, "; "))
}

// warn prints what the user should know though the command goes on.
func (a *app) warn(format string, values ...any) {
	fmt.Fprintf(a.Stderr, "%s: warning: %s\n", a.Name, oneLine(fmt.Errorf(format, values...)))
}
