package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/bbm-runner/bbm-runner/internal/control"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

func (d *demo) demoWorks() (*work.Registry, error) {
	parsed, err := work.ParseFile(filepath.Join(d.folder, demoWork+".sql"))
	if err != nil {
		return nil, err
	}
	return work.NewRegistry(parsed)
}

// watchRun lets workers bring the migration to its end: paused and resumed at a quarter, the worker killed and replaced past the half.
func (d *demo) watchRun(ctx context.Context) error {
	worker, err := d.startWorker()
	if err != nil {
		return err
	}
	defer func() { worker.stop() }()
	d.say("Started a worker, process %d", worker.pid())

	if err := d.watchUntil(ctx, worker, func(m control.Migration) bool { return m.Progress >= 0.25 }); err != nil {
		return err
	}
	if err := d.pauseAndResume(ctx, worker); err != nil {
		return err
	}
	err = d.watchUntil(ctx, worker, func(m control.Migration) bool { return m.Progress >= 0.6 && d.isInMidJob(m) })
	if err != nil {
		return err
	}
	killed := worker.pid()
	worker.kill()
	if worker, err = d.startWorker(); err != nil {
		return err
	}
	d.say("Killed the worker (process %d) with SIGKILL in the middle of a job", killed)
	d.say("Another starts, process %d; until it is connected the migration waits", worker.pid())
	return d.watchUntil(ctx, worker, func(m control.Migration) bool { return false })
}

// isInMidJob reports whether a job runs that is neither at its beginning nor near its end.
func (d *demo) isInMidJob(m control.Migration) bool {
	batch := int64(d.rows / demoJobs)
	done := m.ProcessedRows % batch
	return m.Jobs.Running > 0 && done > batch/10 && done < batch*6/10
}

func (d *demo) pauseAndResume(ctx context.Context, worker *demoWorker) error {
	if m, err := d.status(ctx); err != nil || !canProceed(m) {
		return err
	}
	if err := d.control.Pause(ctx, d.name, "to show that it can be"); err != nil {
		return err
	}
	// The sub-batch in progress ends, and gives the job back.
	if err := d.watchUntil(ctx, worker, func(m control.Migration) bool { return m.Jobs.Running == 0 }); err != nil {
		return err
	}
	before, err := d.status(ctx)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(demoPause):
	}
	after, err := d.status(ctx)
	if err != nil {
		return err
	}
	if before.ProcessedRows != after.ProcessedRows {
		return fmt.Errorf("the migration went on while it was paused: %d rows, then %d", before.ProcessedRows, after.ProcessedRows)
	}
	d.say("Paused at %s rows; nothing moved for %s; resuming", count(after.ProcessedRows), demoPause)
	return d.control.Resume(ctx, d.name, "", false)
}

func (d *demo) status(ctx context.Context) (control.Migration, error) {
	migrations, err := d.control.Status(ctx, d.name)
	if err != nil {
		return control.Migration{}, err
	}
	return migrations[0], nil
}

// watchUntil shows the migration's progress until the condition holds or the migration has ended.
func (d *demo) watchUntil(ctx context.Context, worker *demoWorker, reached func(control.Migration) bool) error {
	view := d.newView(false)
	defer view.close()
	for {
		m, err := d.status(ctx)
		if err != nil {
			return err
		}
		view.show([]control.Migration{m})
		switch {
		case m.Status == "failed":
			return fmt.Errorf("the demo's migration failed: %s", m.Failure.Message)
		case m.Status == "finished" || reached(m):
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-worker.done:
			return fmt.Errorf("the worker ended: %w; %s", worker.err, worker.lastWords())
		case <-time.After(demoLook):
		}
	}
}

// demoWorker is a process of this very program that runs the demo's migration.
type demoWorker struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when the process has ended; err is set then
	err  error
}

func (d *demo) startWorker() (*demoWorker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	w := &demoWorker{log: filepath.Join(d.folder, "worker.log"), done: make(chan struct{})}
	log, err := os.OpenFile(w.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the process has its own
	w.cmd = exec.Command(self, "--works", d.folder, "run", "--only", d.name)
	w.cmd.Stdout, w.cmd.Stderr = log, log
	for _, variable := range d.Environ {
		if !strings.HasPrefix(variable, "BBM_") {
			w.cmd.Env = append(w.cmd.Env, variable)
		}
	}
	w.cmd.Env = append(w.cmd.Env, "BBM_DATABASE_URL="+d.url, "BBM_ENABLED=true", "BBM_POLL_INTERVAL=100ms")
	if err := w.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a worker: %w", err)
	}
	go func() {
		w.err = w.cmd.Wait()
		if w.err == nil {
			w.err = errors.New("exit code 0")
		}
		close(w.done)
	}()
	return w, nil
}

func (w *demoWorker) pid() int { return w.cmd.Process.Pid }

func (w *demoWorker) kill() { w.end(syscall.SIGKILL) }

func (w *demoWorker) stop() { w.end(syscall.SIGTERM) }

func (w *demoWorker) end(signal syscall.Signal) {
	_ = w.cmd.Process.Signal(signal) // an error says that it has ended already
	<-w.done
}

func (w *demoWorker) lastWords() string {
	text, err := os.ReadFile(w.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}
