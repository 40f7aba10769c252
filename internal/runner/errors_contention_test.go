package runner_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/runner"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// impatient is a configuration that gives way soon and comes back soon.
func (w *world) impatient() runner.Config {
	config := w.daemon()
	config.LockTimeout, config.LossBase = 20*time.Millisecond, time.Millisecond
	return config
}

// foreignLocks are what another session may hold of a row in mid-run.
var foreignLocks = map[string]string{
	"a row that is locked":  `SELECT FROM public.items WHERE id = 17 FOR UPDATE`,
	"a row that is changed": `UPDATE public.items SET n = n WHERE id = 17`,
}

func TestALockThatIsReleasedCostsNoAttemptButASmallerSubBatch(t *testing.T) {
	for name, lock := range foreignLocks {
		t.Run(name, func(t *testing.T) {
			w := setup(t, 40)
			w.noteSizes()
			w.enqueue("count", "public.items", 40, 8)
			goOn, stop := w.startMidway(16, w.impatient(), parse(t, "count", increment))
			holder := w.holder(lock)
			goOn()
			require.Eventually(t, func() bool { return w.counted("lost to others") >= 3 }, 30*time.Second, time.Millisecond)
			require.NoError(t, holder.Rollback(w.ctx))
			w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
			require.NoError(t, stop())
			w.eachOnce("count")
			w.noAttempt()
			require.Less(t, w.sizes()[2], int32(8), "the first sub-batch after the losses is smaller")
		})
	}
}

func TestALockThatIsHeldForEverIsAFailedAttemptAfterTenLosses(t *testing.T) {
	for name, lock := range foreignLocks {
		t.Run(name, func(t *testing.T) {
			w := setup(t, 40)
			w.enqueue("count", "public.items", 40, 8)
			w.exec(`UPDATE bbm.batched_background_migrations SET max_attempts = 1`)
			count := parse(t, "count", increment)
			goOn, stop := w.startMidway(16, w.impatient(), count)
			holder := w.holder(lock)
			goOn()
			w.eventually(`SELECT status = 'failed' FROM bbm.batched_background_migrations`)
			require.NoError(t, stop())
			require.Equal(t, 9, w.counted("lost to others"), "the tenth is the end")
			require.Equal(t, "lock_not_available", one[string](w, `SELECT exception_class FROM bbm.batched_background_migration_jobs`))
			require.Equal(t, 1, one[int](w, `SELECT attempts FROM bbm.batched_background_migration_jobs`))
			require.NoError(t, holder.Rollback(w.ctx))
			w.retry("count", count)
			w.eachOnce("count")
		})
	}
}

func TestADeadlockThatTheRunnerLosesCostsNoAttempt(t *testing.T) {
	w := setup(t, 20)
	w.setDatabase("deadlock_timeout", "10ms")
	w.exec(`CREATE TABLE public.others (id int PRIMARY KEY); INSERT INTO public.others VALUES (1)`)
	w.enqueue("go", "public.items", 20, 10)
	hasLocked, mayGoOn := make(chan struct{}), make(chan struct{})
	var first sync.Once
	config := w.daemon()
	config.LockTimeout = time.Minute
	stop := w.start(w.runner(config, goWork(func(ctx context.Context, tx pgx.Tx, b work.Batch) (int64, error) {
		rows, err := b.Exec(ctx, tx, incrementBatch)
		if err != nil {
			return 0, err
		}
		first.Do(func() { close(hasLocked); <-mayGoOn })
		_, err = tx.Exec(ctx, `SELECT FROM public.others WHERE id = 1 FOR UPDATE`)
		return rows, err
	})))
	<-hasLocked
	other := w.holder(`SELECT FROM public.others WHERE id = 1 FOR UPDATE; SET LOCAL deadlock_timeout = '1h'`)
	ended := make(chan error, 1)
	go func() { _, err := other.Exec(w.ctx, `SELECT FROM public.items WHERE id = 5 FOR UPDATE`); ended <- err }()
	w.waitsForLock(pidOf(other))
	close(mayGoOn) // the runner closes the circle, and only it looks for one
	require.NoError(t, <-ended)
	require.NoError(t, other.Commit(w.ctx))
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	w.eachOnce("go")
	w.noAttempt()
	require.Contains(t, w.log.String(), "deadlock detected")
}

func TestADeadlockThatTheOtherLosesIsNotNoticed(t *testing.T) {
	w := setup(t, 20)
	w.setDatabase("deadlock_timeout", "1h")
	w.enqueue("count", "public.items", 20, 10)
	config := w.daemon()
	config.LockTimeout = time.Minute
	goOn, stop := w.startMidway(10, config, parse(t, "count", increment))
	other := w.holder(`SELECT FROM public.items WHERE id = 15 FOR UPDATE; SET LOCAL deadlock_timeout = '10ms'`)
	goOn()
	w.eventually(`SELECT EXISTS (SELECT FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid)))`, pidOf(other))
	_, err := other.Exec(w.ctx, `SELECT FROM public.items WHERE id = 12 FOR UPDATE`)
	var refused *pgconn.PgError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "40P01", refused.Code)
	require.NoError(t, other.Rollback(w.ctx))
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	w.eachOnce("count")
	w.noAttempt()
	require.Zero(t, w.counted("lost to others"))
}

// READ COMMITTED knows one serialization failure: a row that moves to another partition while somebody waits for it.
func TestARowThatMovesToAnotherPartitionInMeanwhileIsASerializationFailure(t *testing.T) {
	w := setup(t, 0)
	w.exec(`DROP TABLE public.items`)
	w.exec(`CREATE TABLE public.items (id bigint NOT NULL, n int NOT NULL DEFAULT 0, region int NOT NULL DEFAULT 1) PARTITION BY LIST (region)`)
	w.exec(`CREATE TABLE public.items_1 PARTITION OF public.items FOR VALUES IN (1); CREATE TABLE public.items_2 PARTITION OF public.items FOR VALUES IN (2)`)
	w.exec(`CREATE INDEX ON public.items (id); INSERT INTO public.items (id) SELECT g FROM generate_series(1, 20) AS g`)
	w.enqueue("count", "public.items", 20, 10)
	config := w.daemon()
	config.LockTimeout = time.Minute
	goOn, stop := w.startMidway(10, config, parse(t, "count", strings.Replace(increment, "-- cursor: id", "-- cursor: id\n-- repeated_keys: yes", 1)))
	other := w.holder(`UPDATE public.items SET region = 2 WHERE id = 15`)
	goOn()
	w.eventually(`SELECT EXISTS (SELECT FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid)))`, pidOf(other))
	require.NoError(t, other.Commit(w.ctx))
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	w.eachOnce("count")
	w.noAttempt()
	require.Contains(t, w.log.String(), "(SQLSTATE 40001)")
}

// A function may raise one as well, of a queue or a lock of its own.
func TestASerializationFailureOfTheWorksOwnIsTriedAgain(t *testing.T) {
	w := setup(t, 20)
	w.noteSizes()
	w.exec(`CREATE SEQUENCE public.tries`)
	w.exec(`CREATE FUNCTION public.fail_twice() RETURNS integer LANGUAGE plpgsql AS $$
		BEGIN IF nextval('public.tries') <= 2 THEN RAISE EXCEPTION 'try again' USING ERRCODE = 'serialization_failure'; END IF; RETURN 1; END $$`)
	w.enqueue("count", "public.items", 20, 20)
	config := w.config()
	config.LossBase = time.Millisecond
	require.NoError(t, w.runner(config, poison(t, 1, "public.fail_twice()")).Run(w.ctx))
	w.eachOnce("count")
	w.noAttempt()
	require.Equal(t, int32(5), w.sizes()[0], "halved twice")
}
