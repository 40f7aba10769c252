package runner_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/runner"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// world is a database with our schema, an enabled fleet and a table whose n a work increments: what runs twice, shows.
type world struct {
	t    *testing.T
	url  string
	conn *pgx.Conn
	ctx  context.Context
	log  *syncBuffer
}

// increment is not idempotent.
const increment = `-- description: Count.
-- table: public.items
-- cursor: id
-- search_path: public

-- +bbm Work
UPDATE public.items AS i SET n = n + 1 WHERE @batch(i)`

func setup(t *testing.T, rows int) *world {
	t.Helper()
	t.Parallel()
	return setupOn(t, dbtest.New(t), rows)
}

// setupOn makes a world in a database that has our schema.
func setupOn(t *testing.T, url string, rows int) *world {
	t.Helper()
	w := &world{t: t, url: url, ctx: t.Context(), log: &syncBuffer{}}
	w.conn = dbtest.Connect(t, w.url)
	w.exec(`UPDATE bbm.fleet_settings SET execution_enabled = true`)
	w.exec(`CREATE TABLE public.items (id bigint PRIMARY KEY, n integer NOT NULL DEFAULT 0)`)
	w.exec(`INSERT INTO public.items (id) SELECT g FROM generate_series(1, $1::int) AS g`, rows)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(w.log.String())
		}
	})
	return w
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	_, err := w.conn.Exec(w.ctx, sql, args...)
	require.NoError(w.t, err)
}

// one reads a single value.
func one[T any](w *world, sql string, args ...any) T {
	w.t.Helper()
	var value T
	require.NoError(w.t, w.conn.QueryRow(w.ctx, sql, args...).Scan(&value))
	return value
}

// enqueue creates a migration of a work as SQL does.
func (w *world) enqueue(workName, table string, batchSize, subBatchSize int) {
	w.t.Helper()
	w.exec(`SELECT bbm.enqueue($1, $2::text::regclass, batch_size => $3, sub_batch_size => $4)`, workName, table, batchSize, subBatchSize)
}

func (w *world) status(name string) string {
	w.t.Helper()
	return one[string](w, `SELECT status::text FROM bbm.batched_background_migrations WHERE name = $1`, name)
}

// config is a runner's for tests: it polls often and retries soon.
func (w *world) config() runner.Config {
	return runner.Config{
		Enabled: true, PollInterval: 20 * time.Millisecond, RetryBase: 10 * time.Millisecond, UntilIdle: true, Version: "test",
		Logger: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

func (w *world) runner(config runner.Config, works ...*work.Work) *runner.Runner {
	w.t.Helper()
	registry, err := work.NewRegistry(works...)
	require.NoError(w.t, err)
	connConfig, err := pgx.ParseConfig(w.url)
	require.NoError(w.t, err)
	r, err := runner.New(connConfig, registry, config)
	require.NoError(w.t, err)
	return r
}

// runUntilIdle runs one runner until nothing is left to do.
func (w *world) runUntilIdle(works ...*work.Work) error {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
	defer cancel()
	err := w.runner(w.config(), works...).Run(ctx)
	require.NoError(w.t, ctx.Err(), "the runner did not become idle")
	return err
}

// start runs a runner in the background; the function that it returns stops it and returns its error.
func (w *world) start(r *runner.Runner) (stop func() error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.ctx))
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	var once sync.Once
	var err error
	stop = func() error {
		once.Do(func() {
			cancel()
			select {
			case err = <-done:
			case <-time.After(time.Minute):
				err = fmt.Errorf("the runner did not stop")
			}
		})
		return err
	}
	w.t.Cleanup(func() { _ = stop() })
	return stop
}

// eventually waits for a condition in the database.
func (w *world) eventually(condition string, args ...any) {
	w.t.Helper()
	require.Eventually(w.t, func() bool { return one[bool](w, `SELECT coalesce((`+condition+`), false)`, args...) }, 30*time.Second, 5*time.Millisecond, condition)
}

// eachOnce proves that every row was changed exactly once and that the history is whole.
func (w *world) eachOnce(name string) {
	w.t.Helper()
	require.Equal(w.t, "finished", w.status(name))
	require.Zero(w.t, one[int](w, `SELECT count(*) FROM public.items WHERE n <> 1`), "rows not changed exactly once")
	dbtest.CheckHistory(w.t, w.conn, name)
}

func parse(t *testing.T, name, src string) *work.Work {
	t.Helper()
	parsed, err := work.Parse(name, []byte(src))
	require.NoError(t, err)
	return parsed
}

// syncBuffer keeps a runner's log for a test that fails.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
