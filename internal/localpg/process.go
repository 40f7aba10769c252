package localpg

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// process is a running server.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the server has exited; err is set then
	err  error
}

// startProcess starts cmd and returns once it runs.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel sends Pdeathsig when the thread that started the child ends, not the process: this
		// goroutine keeps its thread until the child has exited.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// end sends the signal and waits for the exit. A process that has exited already is no error. When ctx ends
// first, the process is killed.
func (p *process) end(ctx context.Context, signal syscall.Signal) {
	// The one error that Signal has is that the process has finished.
	_ = p.cmd.Process.Signal(signal)
	select {
	case <-p.done:
	case <-ctx.Done():
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// command prepares one of PostgreSQL's programs, whose output goes to log. Messages are in English, and no
// PG* variable of ours (PGDATA, PGPORT, PGOPTIONS) reaches it.
func command(ctx context.Context, who *owner, dir string, log *os.File, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = attributes(who)
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "PG") && !strings.HasPrefix(variable, "LC_") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, "LC_ALL=C")
	return cmd
}

// withLog adds the last lines of the server's log to an error: they tell the reason.
func withLog(err error, path string) error {
	const lastLines = 8
	text, readErr := os.ReadFile(path)
	if readErr != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	lines = lines[max(0, len(lines)-lastLines):]
	return fmt.Errorf("%w; its last output: %s", err, strings.Join(lines, " | "))
}
