package runner_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

const incrementBatch = `UPDATE public.items AS i SET n = n + 1 WHERE @batch(i)`

func goWork(do work.DoFunc) *work.Work {
	return &work.Work{Name: "go", Version: "1", Table: "public.items", Cursor: []string{"id"}, Do: do}
}

func TestAGoWorkRunsInTheSubBatchesTransaction(t *testing.T) {
	w := setup(t, 250)
	w.enqueue("go", "public.items", 100, 30)
	require.NoError(t, w.runUntilIdle(goWork(func(ctx context.Context, tx pgx.Tx, b work.Batch) (int64, error) {
		// A savepoint that is rolled back leaves no trace.
		err := pgx.BeginFunc(ctx, tx, func(nested pgx.Tx) error {
			if _, err := b.Exec(ctx, nested, incrementBatch); err != nil {
				return err
			}
			return errors.New("undo")
		})
		if err == nil || err.Error() != "undo" {
			return 0, err
		}
		return b.Exec(ctx, tx, incrementBatch)
	})))
	w.eachOnce("go")
	require.Equal(t, 250, one[int](w, `SELECT affected_rows::int FROM bbm.batched_background_migrations`))
}

func TestAGoWorkThatFailsChangesNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		do    func(ctx context.Context, tx pgx.Tx) error
		class string
	}{
		"an error":           {func(context.Context, pgx.Tx) error { return errors.New("boom") }, "*errors.errorString"},
		"a panic":            {func(context.Context, pgx.Tx) error { panic("boom") }, "panic"},
		"a swallowed error":  {func(ctx context.Context, tx pgx.Tx) error { _, _ = tx.Exec(ctx, "SELECT 1/0"); return nil }, "in_failed_sql_transaction"},
		"a refused commit":   {func(ctx context.Context, tx pgx.Tx) error { return tx.Commit(ctx) }, "*errors.errorString"},
		"a division by zero": {func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, "SELECT 1/0"); return err }, "division_by_zero"},
		"a missing parameter": {func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "SELECT $1::int", []int{1})
			return err
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t, 20)
			w.enqueue("go", "public.items", 10, 10)
			w.exec(`UPDATE bbm.batched_background_migrations SET max_attempts = 2`)
			require.Error(t, w.runUntilIdle(goWork(func(ctx context.Context, tx pgx.Tx, b work.Batch) (int64, error) {
				rows, err := b.Exec(ctx, tx, incrementBatch)
				if err != nil {
					return 0, err
				}
				return rows, tc.do(ctx, tx)
			})))
			require.Zero(t, one[int](w, `SELECT sum(n) FROM public.items`))
			if tc.class != "" {
				require.Equal(t, tc.class, one[string](w, `SELECT exception_class FROM bbm.batched_background_migration_jobs WHERE status = 'failed'`))
			}
			require.Equal(t, 2, one[int](w, `SELECT max(attempts) FROM bbm.batched_background_migration_jobs`))
			dbtest.CheckHistory(t, w.conn, "go")
		})
	}
}

func TestAWorkThatEndsTheTransactionBehindTheRunnersBackIsNotCalledAgain(t *testing.T) {
	for name, end := range map[string]string{
		"COMMIT and BEGIN": "COMMIT; BEGIN",
		"COMMIT":           "COMMIT",
		"unlock":           "SELECT pg_advisory_unlock_all()",
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t, 20)
			w.enqueue("go", "public.items", 10, 10)
			calls := 0
			stop := w.start(w.runner(w.daemon(), goWork(func(ctx context.Context, tx pgx.Tx, b work.Batch) (int64, error) {
				calls++
				rows, err := b.Exec(ctx, tx, incrementBatch)
				if err != nil {
					return 0, err
				}
				_, err = tx.Conn().Exec(ctx, end)
				return rows, err
			})))
			w.eventually(`SELECT status = 'failed' FROM bbm.batched_background_migrations`)
			require.NoError(t, stop())
			require.Equal(t, 1, calls)
			require.Contains(t, one[string](w, `SELECT failure_message FROM bbm.batched_background_migrations`), "the work ended the sub-batch's transaction")
			require.LessOrEqual(t, one[int](w, `SELECT max(n) FROM public.items`), 1, "nothing was changed twice")
			dbtest.CheckHistory(t, w.conn, "go")
		})
	}
}

func TestAGoWorkThatLeavesRowsOpenFailsWithItsReason(t *testing.T) {
	for name, tc := range map[string]struct {
		do    func(ctx context.Context, tx pgx.Tx) error
		class string
	}{
		"rows": {func(ctx context.Context, tx pgx.Tx) error {
			rows, err := tx.Query(ctx, "SELECT generate_series(1, 100000)")
			if err == nil {
				rows.Next()
			}
			return err
		}, "*errors.errorString"},
		"a row of a savepoint": {func(ctx context.Context, tx pgx.Tx) error {
			nested, err := tx.Begin(ctx)
			if err == nil {
				nested.QueryRow(ctx, "SELECT 1")
			}
			return err
		}, "*errors.errorString"},
		"a panic among rows": {func(ctx context.Context, tx pgx.Tx) error {
			rows, err := tx.Query(ctx, "SELECT generate_series(1, 100000)")
			if err == nil && rows.Next() {
				panic("boom")
			}
			return err
		}, "panic"},
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t, 5)
			w.enqueue("go", "public.items", 10, 10)
			w.exec(`UPDATE bbm.batched_background_migrations SET max_attempts = 2`)
			require.Error(t, w.runUntilIdle(goWork(func(ctx context.Context, tx pgx.Tx, _ work.Batch) (int64, error) { return 0, tc.do(ctx, tx) })))
			require.Equal(t, tc.class, one[string](w, `SELECT exception_class FROM bbm.batched_background_migration_jobs`))
			require.Zero(t, one[int](w, `SELECT count(*) FROM bbm.batched_background_migration_job_transition_logs WHERE exception_class = 'RunnerLost'`))
			dbtest.CheckHistory(t, w.conn, "go")
		})
	}
}

func TestAGoWorkGetsItsArgumentsAndAttempt(t *testing.T) {
	w := setup(t, 20)
	w.exec(`SELECT bbm.enqueue('go', 'public.items', arguments => '{"step": "5"}', batch_size => 20)`)
	attempts := []int{}
	gowork := goWork(func(ctx context.Context, tx pgx.Tx, b work.Batch) (int64, error) {
		attempts = append(attempts, b.Attempt)
		if b.Attempt == 1 {
			return 0, errors.New("the first attempt fails")
		}
		return b.Exec(ctx, tx, `UPDATE public.items AS i SET n = n + @step WHERE @batch(i)`)
	})
	gowork.Arguments = []work.Argument{{Name: "step", Type: "int"}}
	require.NoError(t, w.runUntilIdle(gowork))
	require.Equal(t, []int{1, 2}, attempts)
	require.Equal(t, 100, one[int](w, `SELECT sum(n)::int FROM public.items`))
	dbtest.CheckHistory(t, w.conn, "go")
}
