package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	workName = "accounts_add"
	// runLimit ends a run that hangs.
	runLimit = time.Hour
)

// writeWork writes the work of a layout, which does what every contender does.
func (b *binary) writeWork(l layout) error {
	text := fmt.Sprintf(`-- description: Add 1 to every balance.
-- table: app.accounts
-- cursor: %s

-- +bbm Work
%s
 WHERE @batch(a);
`, l.cursor(), updateAll)
	return os.WriteFile(filepath.Join(b.folder, workName+".sql"), []byte(text), 0o600)
}

// enqueue makes the migration that is to run.
func (t *trial) enqueue(ctx context.Context, o migrationOptions) error {
	if err := t.binary.writeWork(t.layout); err != nil {
		return err
	}
	url := t.server.URL("postgres")
	if err := t.binary.call(ctx, url, append([]string{"enqueue", workName, "--name", t.name}, o.enqueueFlags()...)...); err != nil {
		return err
	}
	if o.synchronous {
		return t.binary.call(ctx, url, "set", t.name, synchronousCommits)
	}
	return nil
}

// runMigration times a process of the built program from its start, all its preparations included, until the migration is finished and on disk.
func (t *trial) runMigration(ctx context.Context, o migrationOptions) error {
	if err := t.enqueue(ctx, o); err != nil {
		return err
	}
	stop, err := t.watch(ctx)
	if err != nil {
		return err
	}
	process, err := t.startRunner(ctx, o)
	if err != nil {
		return err
	}
	defer process.kill()
	if err := t.awaitEnd(ctx, process); err != nil {
		return err
	}
	if err := stop(ctx); err != nil {
		return err
	}
	// The process still lives, so that it can be asked.
	runner := processTime(process.cmd.Process.Pid)
	t.cpu.client += runner
	t.cpu.other = max(0, t.cpu.other-runner)
	t.peakBytes = peakMemory(process.cmd.Process.Pid)
	return process.end()
}

// awaitEnd waits for the notification that the migration has ended, or for the process that should bring it about.
func (t *trial) awaitEnd(ctx context.Context, process *runnerProcess) error {
	ctx, cancel := context.WithTimeout(ctx, runLimit)
	defer cancel()
	go func() {
		select {
		case <-process.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		notification, err := t.server.conn.WaitForNotification(ctx)
		if err != nil {
			return fmt.Errorf("bbm-runner ended before its migration: %w; %s", err, process.lastWords())
		}
		name, rest, _ := strings.Cut(notification.Payload, " ")
		switch status, message, _ := strings.Cut(rest, " "); {
		case name != t.name:
		case status == "finished":
			return nil
		default:
			return fmt.Errorf("the migration is %s: %s", status, message)
		}
	}
}

// runnerProcess is a running bbm-runner.
type runnerProcess struct {
	cmd  *exec.Cmd
	log  *bytes.Buffer
	done chan struct{} // closed when it has ended; log and err may be read then
	err  error
}

func (t *trial) startRunner(ctx context.Context, o migrationOptions) (*runnerProcess, error) {
	p := &runnerProcess{log: &bytes.Buffer{}, done: make(chan struct{})}
	p.cmd = t.binary.command(ctx, t.server.URL("postgres"), "run", "--only", t.name, "--workers", strconv.Itoa(o.workers))
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start bbm-runner: %w", err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// end stops the process as an operator does.
func (p *runnerProcess) end() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // its error says that it has ended already
	<-p.done
	if p.err != nil {
		return fmt.Errorf("bbm-runner: %w; %s", p.err, p.lastWords())
	}
	return nil
}

// kill leaves nothing behind when something has failed.
func (p *runnerProcess) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

func (p *runnerProcess) lastWords() string {
	select {
	case <-p.done:
		return strings.TrimSpace(p.log.String())
	default:
		return "it still runs"
	}
}
