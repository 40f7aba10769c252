package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/session"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// Config says how a process runs migrations. The zero value of a field takes its default, but for Enabled.
type Config struct {
	Enabled       bool          // the configuration parameter; false: nothing is claimed or executed
	Workers       int           // executors, each with a connection and at most one slot; default 1
	Only          []string      // names of the only migrations to look at; default all
	BrokenWorks   []string      // names of works that this process has and cannot use, for status to tell; default none
	UntilIdle     bool          // end when no migration can be brought forward any more
	PollInterval  time.Duration // between two polls while idle, jittered by half, up to six times as long after a while; default 5s
	ShutdownGrace time.Duration // how long a sub-batch may go on after a stop was asked for; default 30s
	// LockTimeout is how long a sub-batch waits for a lock, default 500ms. Kept below the server's deadlock_timeout (1s), it makes the runner
	// give way before the server looks for a victim, which could be the application.
	LockTimeout      time.Duration
	StatementTimeout time.Duration // how long a statement may take; default 1m
	// LossBase is the wait after a sub-batch has lost to others, default 100ms; it doubles with each loss in a row, up to fifty times as long.
	LossBase time.Duration
	// IdleTimeout is how long the server waits for a word of this process, in a transaction or between two, before it takes it for hung, ends its
	// session and so frees its slot. It bounds what a work in Go may do between two statements. Default 30s.
	IdleTimeout time.Duration
	// SynchronousCommit makes every sub-batch wait for the disk. Default false: see "Commits" in docs/architecture.md.
	SynchronousCommit bool
	RetryBase         time.Duration // the wait before a failed job's second attempt; it doubles with each; default 10s
	RetryLimit        time.Duration // the longest such wait; default 10m
	RetentionMonths   int           // how long the job transition log is kept; default 6
	Version           string        // of the binary, for the history
	Logger            *slog.Logger  // default slog.Default()
	// Settled is called by each executor of a run until idle that finds nothing left to do, on its
	// connection: while status still counts it among the runners, and so can tell why a migration
	// is left undone. One call at a time; an error ends the run. Default: none.
	Settled func(ctx context.Context, conn *pgx.Conn) error
	// Report is called for critical failures: a migration that failed, a panic. Default: none.
	Report func(ctx context.Context, err error, tags map[string]string)
}

// ErrLockInUse is returned when every slot of the fleet is held by another runner. It is normal: sleep and try again.
var ErrLockInUse = errors.New("every slot is held by another runner")

// ErrJobEndpointNotFound is returned when the boundary query that ends a new job or sub-batch fails. The migration is held and tried again.
var ErrJobEndpointNotFound = errors.New("job endpoint not found")

// ErrParameterOff is returned by a run until idle when the configuration parameter "enabled" is false.
var ErrParameterOff = errors.New(`execution is off: the parameter "enabled" is false (set BBM_ENABLED=true)`)

// ErrExecutionDisabled is returned by a run until idle when the fleet's feature flag is off.
var ErrExecutionDisabled = errors.New("execution is off: the fleet is disabled (turn it on: bbm-runner enable)")

// MigrationsFailedError is returned by a run until idle when migrations that it executed have failed.
type MigrationsFailedError struct{ Names []string }

func (e *MigrationsFailedError) Error() string {
	return "failed: " + strings.Join(e.Names, ", ")
}

// Runner runs the migrations whose works it has. Make it with [New].
type Runner struct {
	connConfig *pgx.ConnConfig
	works      *work.Registry
	config     Config
	wake       *broadcast
	interrupt  chan struct{}
	once       sync.Once

	mu       sync.Mutex
	haltAsOf time.Time
	halted   string         // why nothing is executed; empty: nothing is known against it
	executed map[int64]bool // migrations that this process has executed or rejected
}

// New checks the configuration and fills in its defaults.
func New(connConfig *pgx.ConnConfig, works *work.Registry, config Config) (*Runner, error) {
	config.Workers = cmp.Or(config.Workers, 1)
	config.PollInterval = cmp.Or(config.PollInterval, 5*time.Second)
	config.ShutdownGrace = cmp.Or(config.ShutdownGrace, 30*time.Second)
	config.LockTimeout = cmp.Or(config.LockTimeout, 500*time.Millisecond)
	config.StatementTimeout = cmp.Or(config.StatementTimeout, time.Minute)
	config.LossBase = cmp.Or(config.LossBase, 100*time.Millisecond)
	config.IdleTimeout = cmp.Or(config.IdleTimeout, 30*time.Second)
	config.RetryBase = cmp.Or(config.RetryBase, 10*time.Second)
	config.RetryLimit = cmp.Or(config.RetryLimit, 10*time.Minute)
	config.RetentionMonths = cmp.Or(config.RetentionMonths, 6)
	config.Logger = cmp.Or(config.Logger, slog.Default())
	if config.Only == nil {
		config.Only = []string{}
	}
	if config.Settled == nil {
		config.Settled = func(context.Context, *pgx.Conn) error { return nil }
	}
	if config.Report == nil {
		config.Report = func(context.Context, error, map[string]string) {}
	}
	if config.Workers < 0 || config.RetentionMonths < 0 {
		return nil, errors.New("workers and retention must be positive")
	}
	for name, d := range map[string]time.Duration{
		"poll interval": config.PollInterval, "shutdown grace": config.ShutdownGrace, "lock timeout": config.LockTimeout,
		"statement timeout": config.StatementTimeout, "idle timeout": config.IdleTimeout, "loss base": config.LossBase, "retry base": config.RetryBase, "retry limit": config.RetryLimit,
	} {
		if d < 0 {
			return nil, fmt.Errorf("the %s must be positive", name)
		}
	}
	return &Runner{
		connConfig: connConfig, works: works, config: config, wake: newBroadcast(),
		interrupt: make(chan struct{}), executed: make(map[int64]bool),
	}, nil
}

// Run executes until ctx ends, or until idle where so configured. When ctx ends, nothing more is claimed and the present sub-batches may end
// within the grace time; after it, or after [Runner.Interrupt], they are cancelled and their jobs given back.
func (r *Runner) Run(ctx context.Context) error {
	workCtx, cancelWork := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelWork()
	stopped := context.AfterFunc(ctx, func() {
		r.config.Logger.Info("stopping: sub-batches in progress may end", "grace", r.config.ShutdownGrace)
		select {
		case <-r.interrupt:
		case <-time.After(r.config.ShutdownGrace):
		case <-workCtx.Done():
			return
		}
		r.config.Logger.Warn("stopping: sub-batches in progress are cancelled")
		cancelWork()
	})
	defer stopped()

	listenCtx, stopListening := context.WithCancel(ctx)
	listening := make(chan struct{})
	go func() { defer close(listening); r.listen(listenCtx) }()
	defer func() { stopListening(); <-listening }()

	group, groupCtx := errgroup.WithContext(ctx)
	for i := range r.config.Workers {
		e := r.newExecutor(i)
		group.Go(func() error { return e.run(groupCtx, workCtx) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if r.config.UntilIdle && ctx.Err() == nil {
		return r.failures(ctx)
	}
	return nil
}

// Interrupt ends a stop without waiting: the present sub-batches are cancelled and rolled back, and their jobs given back.
func (r *Runner) Interrupt() {
	r.once.Do(func() { close(r.interrupt) })
}

// settled tells that an executor ends, since nothing is left to do.
func (r *Runner) settled(ctx context.Context, conn *pgx.Conn) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.config.Settled(ctx, conn)
}

func (r *Runner) noteExecuted(migrationID int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.executed[migrationID] = true
}

// failures asks which of the migrations that this process executed have failed, by whomever. A server that is being restarted just then is waited for.
func (r *Runner) failures(ctx context.Context) error {
	ids := slices.AppendSeq([]int64{}, maps.Keys(r.executed))
	for backoff := reconnectBase; ; backoff = min(2*backoff, reconnectLimit) {
		names, isLost, err := r.failedOf(ctx, ids)
		switch {
		case err == nil && len(names) > 0:
			return &MigrationsFailedError{Names: names}
		case err == nil:
			return nil
		case !isLost || ctx.Err() != nil:
			return fmt.Errorf("look for failed migrations: %w", err)
		}
		r.config.Logger.Warn("reconnecting", "error", err, "in", backoff)
		sleep(ctx, jitter(backoff))
	}
}

func (r *Runner) failedOf(ctx context.Context, ids []int64) (names []string, isLost bool, err error) {
	conn, err := session.Connect(ctx, r.connConfig, session.Config{StatementTimeout: r.config.StatementTimeout})
	if err != nil {
		return nil, true, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	names, err = dbgen.New().MigrationListFailed(ctx, conn, ids)
	return names, conn.IsClosed(), err
}

// identity is what the history says of a runner: host, process and version.
func identity(version string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return strings.TrimSpace(fmt.Sprintf("%s pid %d %s", host, os.Getpid(), version))
}
