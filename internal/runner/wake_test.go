package runner_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/control"
	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// sleeper is a runner that by polling alone would not look again while a test lasts.
func (w *world) sleeper(works ...*work.Work) (stop func() error) {
	config := w.daemon()
	config.PollInterval = time.Hour
	stop = w.start(w.runner(config, works...))
	// It listens, and has looked since.
	w.eventually(`SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND query = 'LISTEN bbm_wake' AND state = 'idle')`)
	require.Eventually(w.t, func() bool { return w.polls() >= 1 }, 30*time.Second, time.Millisecond)
	return stop
}

func TestAnIdleRunnerStartsAtOnceWhenThereIsSomethingToDo(t *testing.T) {
	w := setup(t, 30)
	stop := w.sleeper(parse(t, "count", increment))
	c := &control.Control{Conn: w.conn, ChangedBy: "test"}

	w.exec(`SELECT bbm.enqueue('count', 'public.items', 'one')`)
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations WHERE name = 'one'`)

	t.Run("after a resume", func(t *testing.T) {
		w.exec(`SELECT bbm.enqueue('count', 'public.items', 'two', paused => true)`)
		require.NoError(t, c.Resume(w.ctx, "two", "", false))
		w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations WHERE name = 'two'`)
	})
	t.Run("after an enable", func(t *testing.T) {
		require.NoError(t, c.SetEnabled(w.ctx, false, "test"))
		w.exec(`SELECT bbm.enqueue('count', 'public.items', 'three')`)
		require.NoError(t, c.SetEnabled(w.ctx, true, ""))
		w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations WHERE name = 'three'`)
	})
	t.Run("after a retry", func(t *testing.T) {
		w.exec(`ALTER TABLE public.items ADD CONSTRAINT few CHECK (n < 4)`)
		// In one transaction: the runner is woken when the limit is set already.
		w.exec(`SELECT bbm.enqueue('count', 'public.items', 'four'); UPDATE bbm.batched_background_migrations SET max_attempts = 1 WHERE name = 'four'`)
		w.eventually(`SELECT status = 'failed' FROM bbm.batched_background_migrations WHERE name = 'four'`)
		w.exec(`ALTER TABLE public.items DROP CONSTRAINT few`)
		require.NoError(t, c.Retry(w.ctx, "four", "", false))
		w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations WHERE name = 'four'`)
	})
	require.NoError(t, stop())
	for _, name := range []string{"one", "two", "three", "four"} {
		dbtest.CheckHistory(t, w.conn, name)
	}
}

func TestAnIdleRunnerStartsAtOnceWhenASlotIsFreed(t *testing.T) {
	w := setup(t, 100)
	unblock := w.block()
	w.exec(`CREATE TABLE public.others (id bigint PRIMARY KEY, n integer NOT NULL DEFAULT 0)`)
	w.exec(`INSERT INTO public.others (id) SELECT g FROM generate_series(1, 20) AS g`)
	w.enqueue("count", "public.items", 100, 100)
	config := w.config()
	config.LockTimeout = time.Minute
	first := make(chan error, 1)
	blocker := w.runner(config, parse(t, "count", blocking))
	go func() { first <- blocker.Run(w.ctx) }()
	w.blocked()

	other := parse(t, "other", "-- description: d\n-- table: public.others\n-- cursor: id\n-- +bbm Work\nUPDATE public.others AS o SET n = n + 1 WHERE @batch(o)")
	config = w.daemon()
	config.PollInterval = time.Hour
	stop := w.start(w.runner(config, other))
	w.exec(`SELECT bbm.enqueue('other', 'public.others')`)
	require.Eventually(t, func() bool { return w.logged("every slot is held") }, 30*time.Second, time.Millisecond)
	unblock()
	require.NoError(t, <-first)
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations WHERE name = 'other'`)
	require.NoError(t, stop())
}

func TestAWorkThatCrashesItsConnectionEveryTimeComesToAnEnd(t *testing.T) {
	w := setup(t, 20)
	w.enqueue("go", "public.items", 20, 10)
	w.exec(`UPDATE bbm.batched_background_migrations SET max_attempts = 2`)
	var calls atomic.Int64
	stop := w.start(w.runner(w.daemon(), goWork(func(ctx context.Context, tx pgx.Tx, b work.Batch) (int64, error) {
		calls.Add(1)
		_, err := tx.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
		return 0, err
	})))
	w.eventually(`SELECT status = 'failed' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	require.Equal(t, int64(10), calls.Load(), "two attempts of five losses each")
	require.Equal(t, "max_attempts", one[string](w, `SELECT failure_error_code::text FROM bbm.batched_background_migrations`))
	require.Contains(t, one[string](w, `SELECT failure_message FROM bbm.batched_background_migrations`), "lost 5 times in a row")
	dbtest.CheckHistory(t, w.conn, "go")
}
