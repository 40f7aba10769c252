// Command serve runs a command, such as go test ./..., with one test server for all of it: it starts the server that
// package dbtest chooses, says in one line which that is, names it to the command in BBM_TEST_DATABASE_URL, and ends it
// afterwards. Its exit code is the command's.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: serve COMMAND [ARGUMENT]...")
		os.Exit(2)
	}
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "serve:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func run(command []string) (code int, err error) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	var server *dbtest.Server
	opened := make(chan error)
	go func() {
		var err error
		server, err = dbtest.Open(ctx)
		opened <- err
	}()
	select {
	case err = <-opened:
	case received := <-signals:
		cancel()
		err = errors.Join(fmt.Errorf("%v while starting a server", received), <-opened)
	}
	if server != nil {
		defer func() { err = errors.Join(err, server.Stop()) }()
	}
	if err != nil {
		return 1, err
	}
	fmt.Fprintln(os.Stderr, "test databases:", server.Source)
	return execute(ctx, command, server.URL, signals)
}

// execute runs the command in a process group of its own and passes signals on to all of it: a terminal's Ctrl-C reaches
// only us, and SIGTERM would reach go test but not the test binaries that it runs.
func execute(ctx context.Context, command []string, url string, signals <-chan os.Signal) (code int, err error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// The source is settled: what the caller asked for must not rule out the URL.
	cmd.Env = append(os.Environ(), dbtest.URLVariable+"="+url, dbtest.SourceVariable+"=url", dbtest.AnnouncedVariable+"=yes")
	if bin := os.Getenv(dbtest.BinVariable); bin != "" {
		// Each package's tests run in its own folder.
		if bin, err = filepath.Abs(bin); err != nil {
			return 1, fmt.Errorf("resolve %s: %w", dbtest.BinVariable, err)
		}
		cmd.Env = append(cmd.Env, dbtest.BinVariable+"="+bin)
	}
	if err := cmd.Start(); err != nil {
		return 1, fmt.Errorf("run %s: %w", command[0], err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case received := <-signals:
			_ = syscall.Kill(-cmd.Process.Pid, received.(syscall.Signal))
		case err := <-ended:
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				// A command that a signal ended has no code of its own, but has not succeeded.
				return max(exit.ExitCode(), 1), nil
			}
			return 0, err
		}
	}
}
