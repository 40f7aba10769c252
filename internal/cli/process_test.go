package cli

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

// daemon is a `run` in a process of its own, which can be sent signals.
type daemon struct {
	*world
	command *exec.Cmd
	stderr  *buffer
	exited  chan error
}

func (w *world) startDaemon() *daemon {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	w.t.Cleanup(cancel)
	d := &daemon{world: w, stderr: &buffer{}, exited: make(chan error, 1)}
	d.command = exec.CommandContext(ctx, os.Args[0], "--database-url", w.url, "--works", w.works, "run")
	d.command.Env = append(os.Environ(), asProgram+"=yes", "BBM_ENABLED=true", "BBM_POLL_INTERVAL=20ms", "BBM_SHUTDOWN_GRACE=10m")
	d.command.Stderr = d.stderr
	require.NoError(w.t, d.command.Start())
	go func() { d.exited <- d.command.Wait() }()
	return d
}

func (d *daemon) signal(s os.Signal) {
	d.t.Helper()
	require.NoError(d.t, d.command.Process.Signal(s))
}

func (d *daemon) requireEventually(what string, condition func() bool) {
	d.t.Helper()
	require.Eventually(d.t, condition, 30*time.Second, 5*time.Millisecond, "%s; its log: %s", what, d.stderr)
}

func TestASignalStopsAnIdleDaemon(t *testing.T) {
	w := setup(t)
	w.ok("enqueue", "increment")
	d := w.startDaemon()
	d.requireEventually("it does not finish the migration", func() bool {
		return one[string](w, "SELECT status::text FROM bbm.batched_background_migrations") == "finished"
	})
	d.signal(syscall.SIGTERM)
	require.NoError(t, <-d.exited, d.stderr)
	for line := range strings.Lines(d.stderr.String()) {
		assert.True(t, strings.HasPrefix(line, `{"time":`), "not JSON: %s", line)
	}
}

func TestASignalThatComesWhileADaemonStartsStopsIt(t *testing.T) {
	w := setup(t)
	tx, err := w.conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE bbm.goose_db_version")
	require.NoError(t, err)
	d := w.startDaemon()
	d.requireEventually("it does not look at the tables' version", func() bool {
		return one[bool](w, "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'bbm.goose_db_version'::regclass)")
	})
	d.signal(syscall.SIGTERM)
	require.NoError(t, <-d.exited, d.stderr)
	require.NoError(t, tx.Rollback(t.Context()))
}

func TestTwoSignalsAtOnceEndADaemonAtOnce(t *testing.T) {
	w := setup(t)
	w.file("sleep", strings.Replace(increment, "@batch(i)", "@batch(i) AND (SELECT true FROM pg_sleep(600))", 1))
	w.ok("enqueue", "sleep")
	d := w.startDaemon()
	d.requireEventually("it does not execute", func() bool {
		return one[int64](w, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'") == 1
	})
	d.signal(syscall.SIGTERM)
	d.signal(syscall.SIGINT) // two of one kind may reach a process as one
	require.NoError(t, <-d.exited, d.stderr)
	assert.Equal(t, "pending", one[string](w, "SELECT status::text FROM bbm.batched_background_migration_jobs"))
	assert.Equal(t, int64(100), one[int64](w, "SELECT count(*) FROM app.items WHERE n = 0"))
	dbtest.CheckHistory(t, w.conn, "sleep")
}

func TestASecondSignalDoesNotWaitForTheSubBatch(t *testing.T) {
	w := setup(t)
	w.file("sleep", strings.Replace(increment, "@batch(i)", "@batch(i) AND (SELECT true FROM pg_sleep(600))", 1))
	w.ok("enqueue", "sleep")
	d := w.startDaemon()
	d.requireEventually("it does not execute", func() bool {
		return one[int64](w, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'") == 1
	})
	d.signal(syscall.SIGTERM)
	d.requireEventually("it does not notice the first signal", func() bool { return strings.Contains(d.stderr.String(), "stopping") })
	assert.Equal(t, "running", one[string](w, "SELECT status::text FROM bbm.batched_background_migration_jobs"))
	d.signal(syscall.SIGINT)
	require.NoError(t, <-d.exited, d.stderr)
	assert.Equal(t, "pending", one[string](w, "SELECT status::text FROM bbm.batched_background_migration_jobs"))
	assert.Equal(t, int64(100), one[int64](w, "SELECT count(*) FROM app.items WHERE n = 0"))
}
