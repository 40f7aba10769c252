package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// program is bbm-runner, or a binary that behaves as it when environment is set.
type program struct {
	path        string
	environment []string
}

// command has nothing but our settings in its environment.
func (p program) command(url, works string, args ...string) *exec.Cmd {
	cmd := exec.Command(p.path, args...)
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "BBM_") && !strings.HasPrefix(variable, "PG") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, p.environment...)
	cmd.Env = append(cmd.Env, "BBM_DATABASE_URL="+url, "BBM_WORKS_DIR="+works, "BBM_ENABLED=true", "BBM_POLL_INTERVAL=50ms",
		"BBM_SHUTDOWN_GRACE=1s", "BBM_LOCK_TIMEOUT=200ms", "BBM_LOG_LEVEL=debug", "BBM_LOG_FORMAT=text")
	cmd.SysProcAttr = attributes()
	return cmd
}

// call runs a short command to its end and returns what it printed.
func (p program) call(ctx context.Context, url, works string, args ...string) (code int, output string, err error) {
	var out bytes.Buffer
	child, err := start(p.command(url, works, args...), &out)
	if err != nil {
		return 0, "", err
	}
	select {
	case <-child.done:
	case <-ctx.Done():
		child.signal(syscall.SIGKILL)
		<-child.done
		return 0, out.String(), ctx.Err()
	}
	return child.code(), strings.TrimSpace(out.String()), nil
}

// child is one process.
type child struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error

	mu     sync.Mutex
	killed bool // by us
	asked  bool // to stop, by us
	frozen bool
}

// start runs a command, whose output goes to out.
func start(cmd *exec.Cmd, out io.Writer) (*child, error) {
	cmd.Stdout, cmd.Stderr = out, out
	c := &child{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel sends the signal of attributes when the thread that started the child ends: the thread is kept.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			c.err = cmd.Wait()
			close(c.done)
		}
	}()
	return c, <-started
}

// signal reports whether the process was there to receive it.
func (c *child) signal(s syscall.Signal) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch s {
	case syscall.SIGKILL:
		c.killed = true
	case syscall.SIGTERM:
		c.asked = true
	case syscall.SIGSTOP:
		c.frozen = true
	case syscall.SIGCONT:
		c.frozen = false
	}
	return c.cmd.Process.Signal(s) == nil
}

// isFree tells whether it runs and nobody has asked it to end yet.
func (c *child) isFree() bool {
	if c == nil {
		return false
	}
	select {
	case <-c.done:
		return false
	default:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.killed && !c.asked
}

// code is the exit code of a process that has ended, -1 for a signal.
func (c *child) code() int {
	var exit *exec.ExitError
	switch {
	case c.err == nil:
		return 0
	case errors.As(c.err, &exit):
		return exit.ExitCode()
	}
	return -1
}

// stop asks the process to end, and kills it where it does not.
func (c *child) stop(within time.Duration) error {
	c.signal(syscall.SIGCONT)
	c.signal(syscall.SIGTERM)
	select {
	case <-c.done:
		return nil
	case <-time.After(within):
	}
	// Its goroutines tell where it hangs.
	c.signal(syscall.SIGQUIT)
	select {
	case <-c.done:
	case <-time.After(5 * time.Second):
		c.signal(syscall.SIGKILL)
		<-c.done
	}
	return fmt.Errorf("process %d did not end within %s of SIGTERM", c.cmd.Process.Pid, within)
}
