package control

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/runner"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// The job of each migration has modelRows rows in sub-batches of modelStep; something happens at one row, and it fails at another.
const (
	modelRows  = 24
	modelStep  = 6
	eventRow   = 8
	failureRow = 20
)

// subject is the system under test: the commands, on two tables, and a real runner whose work does what a test tells it.
type subject struct {
	*fixture
	connConfig *pgx.ConnConfig
	registry   *work.Registry

	mu       sync.Mutex
	failures int               // attempts of each job that fail
	during   func(name string) // called once, in the midst of a job
}

func newSubject(t *testing.T) *subject {
	t.Helper()
	s := &subject{fixture: &fixture{t: t, url: dbtest.New(t)}}
	var works []*work.Work
	for name, table := range map[string]string{workA: "public.users", workB: "public.users", workVoid: "public.nothing"} {
		works = append(works, &work.Work{Name: name, Version: "1", Table: table, Cursor: []string{"id"}, SubBatchSize: modelStep, Do: s.do})
	}
	var err error
	s.registry, err = work.NewRegistry(works...)
	require.NoError(t, err)
	s.connConfig, err = pgx.ParseConfig(s.url)
	require.NoError(t, err)
	s.Control = s.another()
	s.Works = s.registry
	s.exec(`CREATE TABLE public.users (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0)`)
	s.exec(`CREATE TABLE public.nothing (LIKE public.users INCLUDING ALL)`)
	s.exec(`INSERT INTO public.users SELECT i FROM generate_series(1, $1::int) i`, modelRows)
	s.exec(`ANALYZE public.users`)
	return s
}

// do is each work. The event happens in an earlier sub-batch than the failure, so that it happens first.
func (s *subject) do(ctx context.Context, tx pgx.Tx, b work.Batch) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	has := func(row int) bool {
		after := 0
		if b.After != nil {
			after, _ = strconv.Atoi(b.After[0])
		}
		until, _ := strconv.Atoi(b.Until[0])
		return after < row && row <= until
	}
	if has(eventRow) && s.during != nil {
		during := s.during
		s.during = nil
		during(b.Migration)
	}
	if has(failureRow) && b.Attempt <= s.failures {
		return 0, errors.New("told to fail")
	}
	return b.Exec(ctx, tx, `UPDATE public.users AS u SET n = n + 1 WHERE @batch(u)`)
}

// run runs a runner until idle, or until stop is called in the midst of a job.
func (s *subject) run(t *rapid.T, failures int, during func(name string, stop func())) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	s.failures, s.during = failures, nil
	if during != nil {
		s.during = func(name string) { during(name, stop) }
	}
	r, err := runner.New(s.connConfig, s.registry, runner.Config{
		Enabled: true, UntilIdle: true, PollInterval: time.Millisecond, RetryBase: time.Nanosecond, Version: "model",
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	select {
	case err = <-done:
	case <-time.After(time.Minute):
		t.Fatal("the runner does not become idle")
	}
	var failed *runner.MigrationsFailedError
	if !errors.As(err, &failed) && !errors.Is(err, runner.ErrExecutionDisabled) {
		require.NoError(t, err)
	}
}

// clear forgets everything, for the next sequence.
func (s *subject) clear(t *rapid.T) {
	for _, sql := range []string{
		`DELETE FROM bbm.batched_background_migrations`, `UPDATE bbm.fleet_settings SET execution_enabled = true`, `UPDATE public.users SET n = 0`,
	} {
		_, err := s.Conn.Exec(context.Background(), sql)
		require.NoError(t, err)
	}
}

// compare proves that status and history of every migration are those of the model, and that there are no others.
func (s *subject) compare(t *rapid.T, w *model) {
	ctx := context.Background()
	names, err := s.Names(ctx)
	require.NoError(t, err)
	require.Len(t, names, len(w.migrations))
	for name, m := range w.migrations {
		now, err := s.get(ctx, name)
		require.NoError(t, err)
		require.Equal(t, m.status, now.Status, name)
		logs, err := s.MigrationLogs(ctx, name)
		require.NoError(t, err)
		var history []step
		for _, log := range logs {
			history = append(history, step{dbgen.MigrationStatus(value(log.PreviousStatus)), dbgen.MigrationStatus(log.NextStatus)})
		}
		require.Equal(t, m.history, history, "history of %s", name)
		dbtest.CheckHistory(t, s.Conn, name)
	}
}
