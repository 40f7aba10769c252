package runner_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/control"
	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// control acts as the command line does, on the world's own connection.
func (w *world) control() *control.Control {
	return &control.Control{Conn: w.conn, ChangedBy: "test@host"}
}

// retryQuarantined has the rows that were left out tried again, of which there have to be so many.
func (w *world) retryQuarantined(name string, rows int) {
	w.t.Helper()
	retried, err := w.control().RetryQuarantined(w.ctx, name, "", false)
	require.NoError(w.t, err)
	require.EqualValues(w.t, rows, retried)
}

// leftOut are the keys of the rows in quarantine, in the order of their numbers.
func (w *world) leftOut() []string {
	w.t.Helper()
	return one[[]string](w, `SELECT coalesce(array_agg(row_key[1] ORDER BY row_key[1]::numeric), '{}')
		FROM bbm.batched_background_migration_quarantined_rows WHERE mended_at IS NULL`)
}

// setupBad is a world with some rows that fail by the check "sound", and its migration, which leaves them out.
func setupBad(t *testing.T, rows, batch int, bad ...int) *world {
	t.Helper()
	w := setup(t, rows)
	w.exec(fmt.Sprintf(`ALTER TABLE public.items ADD CONSTRAINT sound CHECK (n = 0 OR id NOT IN (%s))`, strings.Trim(strings.Join(strings.Fields(fmt.Sprint(bad)), ","), "[]")))
	w.enqueue("count", "public.items", batch, batch)
	w.exec(`UPDATE bbm.batched_background_migrations SET on_row_error = 'quarantine', max_attempts = 1`)
	return w
}

func TestRowsThatFailAreLeftOutAndTheRestGoesOn(t *testing.T) {
	w := setupBad(t, 200, 50, 1, 50, 51, 52, 120, 200)
	require.NoError(t, w.runUntilIdle(parse(t, "count", increment)))
	require.Equal(t, "finished", w.status("count"))
	require.Equal(t, []string{"1", "50", "51", "52", "120", "200"}, w.leftOut())
	require.Zero(t, one[int](w, `SELECT count(*) FROM public.items WHERE n <> (id NOT IN (1, 50, 51, 52, 120, 200))::int`))
	require.Equal(t, 200, one[int](w, `SELECT processed_rows FROM bbm.batched_background_migrations`))
	require.Equal(t, 194, one[int](w, `SELECT affected_rows FROM bbm.batched_background_migrations`))
	require.Equal(t, 6, one[int](w, `SELECT count(*) FROM bbm.batched_background_migration_quarantined_rows
		WHERE exception_class = 'check_violation' AND exception_constraint = 'sound' AND exception_message LIKE '%"sound"%' AND failures = 1`))
	require.Zero(t, one[int](w, `SELECT sum(attempts) FROM bbm.batched_background_migration_jobs`), "a row that is left out is no failed attempt")
	dbtest.CheckHistory(t, w.conn, "count")
}

func TestAFullQuarantineFailsTheAttemptAndSaysSo(t *testing.T) {
	w := setupBad(t, 100, 100, 10, 20, 30)
	w.exec(`UPDATE bbm.batched_background_migrations SET quarantine_limit = 2`)
	require.Error(t, w.runUntilIdle(parse(t, "count", increment)))
	require.Equal(t, []string{"10", "20"}, w.leftOut())
	require.Contains(t, one[string](w, `SELECT failure_message FROM bbm.batched_background_migrations`),
		"check_violation on the row with (id) = (30), constraint sound: the quarantine is full (2 rows); new row for relation")
	dbtest.CheckHistory(t, w.conn, "count")

	w.exec(`UPDATE bbm.batched_background_migrations SET quarantine_limit = 3`)
	require.NoError(t, w.control().Retry(w.ctx, "count", "", false))
	require.NoError(t, w.runUntilIdle(parse(t, "count", increment)))
	require.Equal(t, "finished", w.status("count"))
	require.Equal(t, []string{"10", "20", "30"}, w.leftOut())
	require.Equal(t, 97, one[int](w, `SELECT sum(n) FROM public.items`))
	dbtest.CheckHistory(t, w.conn, "count")
}

func TestTwoJobsAtOnceDoNotOverfillTheQuarantine(t *testing.T) {
	w := setup(t, 400)
	w.exec(`ALTER TABLE public.items ADD CONSTRAINT sound CHECK (n = 0 OR id % 2 = 0)`)
	w.enqueue("count", "public.items", 100, 10)
	w.exec(`UPDATE bbm.fleet_settings SET slots = 4`)
	w.exec(`UPDATE bbm.batched_background_migrations SET on_row_error = 'quarantine', max_attempts = 1, quarantine_limit = 20, parallelism = 4`)
	config := w.config()
	config.Workers = 4
	require.Error(t, w.runner(config, parse(t, "count", increment)).Run(w.ctx))
	require.Len(t, w.leftOut(), 20)
	dbtest.CheckHistory(t, w.conn, "count")
}

func TestRowsInQuarantineAreTriedAgainAlone(t *testing.T) {
	w := setupBad(t, 100, 50, 1, 40, 41, 100)
	require.NoError(t, w.runUntilIdle(parse(t, "count", increment)))
	w.retryQuarantined("count", 4)
	require.Equal(t, "active", w.status("count"))
	w.retryQuarantined("count", 0) // they are to be tried already
	// One is mended, one is gone, two still fail; and new rows, in what was the range of row 40 alone, are none of its business.
	w.exec(`ALTER TABLE public.items DROP CONSTRAINT sound`)
	w.exec(`ALTER TABLE public.items ADD CONSTRAINT other CHECK (n = 0 OR id NOT IN (1, 41))`)
	w.exec(`DELETE FROM public.items WHERE id = 100`)
	w.exec(`DELETE FROM public.items WHERE id = 39; INSERT INTO public.items VALUES (39)`)
	w.exec(`ALTER TABLE public.items ALTER id TYPE numeric; INSERT INTO public.items VALUES (39.5), (0)`)
	dbtest.CheckHistory(t, w.conn, "count")
	require.NoError(t, w.runUntilIdle(parse(t, "count", increment)))

	require.Equal(t, "finished", w.status("count"))
	require.Equal(t, []string{"1", "41"}, w.leftOut())
	require.Equal(t, 2, one[int](w, `SELECT count(*) FROM bbm.batched_background_migration_quarantined_rows
		WHERE mended_at IS NULL AND failures = 2 AND exception_constraint = 'other' AND retry_job_id IS NULL`))
	require.Equal(t, []string{"0", "1", "39", "39.5", "41"}, one[[]string](w, `SELECT array_agg(id::text ORDER BY id) FROM public.items WHERE n = 0`))
	require.Zero(t, one[int](w, `SELECT count(*) FROM public.items WHERE n > 1`), "nothing is changed twice")
	require.Equal(t, 100, one[int](w, `SELECT processed_rows FROM bbm.batched_background_migrations`), "a row that is tried again is counted once")
	require.Equal(t, 97, one[int](w, `SELECT affected_rows FROM bbm.batched_background_migrations`), "and changed when it is")
	dbtest.CheckHistory(t, w.conn, "count")

	w.exec(`ALTER TABLE public.items DROP CONSTRAINT other`)
	w.retryQuarantined("count", 2)
	require.NoError(t, w.runUntilIdle(parse(t, "count", increment)))
	require.Empty(t, w.leftOut())
	require.Zero(t, one[int](w, `SELECT count(*) FROM public.items WHERE n <> (id NOT IN (0, 39, 39.5))::int`))
	dbtest.CheckHistory(t, w.conn, "count")
	w.retryQuarantined("count", 0)
	require.Equal(t, "finished", w.status("count"), "nothing is left to be tried")
}

func TestRowsAreTriedAgainWhileTheMigrationRuns(t *testing.T) {
	w := setupBad(t, 400, 20, 5, 6)
	w.exec(`UPDATE bbm.batched_background_migrations SET job_interval = '30 ms'`)
	stop := w.start(w.runner(w.daemon(), parse(t, "count", increment)))
	w.eventually(`SELECT quarantined_rows = 2 FROM bbm.batched_background_migrations`)
	w.exec(`ALTER TABLE public.items DROP CONSTRAINT sound`)
	w.retryQuarantined("count", 2)
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	require.Empty(t, w.leftOut())
	w.eachOnce("count")
}

func TestTheSettingIsReadWhenTheRowFails(t *testing.T) {
	w := setupBad(t, 60, 20, 33)
	w.exec(`UPDATE bbm.batched_background_migrations SET on_row_error = 'fail', max_attempts = 1000`)
	stop := w.start(w.runner(w.daemon(), parse(t, "count", increment)))
	w.eventually(`SELECT EXISTS (SELECT FROM bbm.batched_background_migration_jobs WHERE attempts >= 2)`)
	w.exec(`UPDATE bbm.batched_background_migrations SET on_row_error = 'quarantine'`)
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	require.Equal(t, []string{"33"}, w.leftOut())
	require.Equal(t, 59, one[int](w, `SELECT sum(n) FROM public.items`))
	dbtest.CheckHistory(t, w.conn, "count")
}

func TestARunnerThatWasReplacedLeavesNothingOut(t *testing.T) {
	w := setupBad(t, 10, 10, 5)
	w.exec(`UPDATE bbm.batched_background_migrations SET on_row_error = 'fail'`)
	require.Error(t, w.runUntilIdle(parse(t, "count", increment)))
	w.exec(`UPDATE bbm.batched_background_migrations SET on_row_error = 'quarantine'`)
	// As if the job were running in slot 1, which this session holds as a runner does.
	const running = `UPDATE bbm.batched_background_migration_jobs SET status = 'running', slot = 1, next_attempt_at = NULL`
	const held = `SELECT pg_advisory_lock(1650617601, 1), pg_advisory_lock(1650617601, 1)`
	job := one[int64](w, `SELECT id FROM bbm.batched_background_migration_jobs`)
	sound := dbgen.JobQuarantineParams{
		JobID: job, Claims: 1, MigrationID: one[int64](w, `SELECT id FROM bbm.batched_background_migrations`), Slot: 1,
		ProgressKey: []string{"4"}, RowKey: []string{"5"}, ExceptionClass: "check_violation", ExceptionMessage: "m",
	}
	for name, tc := range map[string]struct {
		before string
		change func(*dbgen.JobQuarantineParams)
		code   string
	}{
		"ours":             {held, func(*dbgen.JobQuarantineParams) {}, ""},
		"another claim":    {held, func(p *dbgen.JobQuarantineParams) { p.Claims = 2 }, "BBM01"},
		"another progress": {held, func(p *dbgen.JobQuarantineParams) { p.ProgressKey = []string{"3"} }, "BBM01"},
		"no progress":      {held, func(p *dbgen.JobQuarantineParams) { p.ProgressKey = nil }, "BBM01"},
		"no slot":          {`SELECT 1`, func(*dbgen.JobQuarantineParams) {}, "BBM01"},
		"a job that has ended": {held + `; UPDATE bbm.batched_background_migration_jobs SET status = 'failed', next_attempt_at = now()`,
			func(*dbgen.JobQuarantineParams) {}, "BBM01"},
		"another table": {held + `; ALTER TABLE public.items RENAME TO old`, func(*dbgen.JobQuarantineParams) {}, "BBM02"},
	} {
		tx, err := w.conn.Begin(w.ctx)
		require.NoError(t, err)
		_, err = tx.Exec(w.ctx, running+"; "+tc.before)
		require.NoError(t, err, name)
		params := sound
		tc.change(&params)
		answer, err := dbgen.New().JobQuarantine(w.ctx, tx, params)
		if tc.code == "" {
			require.NoError(t, err, name)
			require.True(t, answer.IsQuarantined, name)
		} else {
			var raised *pgconn.PgError
			require.ErrorAs(t, err, &raised, name)
			require.Equal(t, tc.code, raised.Code, name)
		}
		require.NoError(t, tx.Rollback(w.ctx))
		w.exec(`SELECT pg_advisory_unlock_all()`)
	}
	dbtest.CheckHistory(t, w.conn, "count")
}

func TestAWorkInGoIsNarrowedDownAndLeavesRowsOut(t *testing.T) {
	w := setup(t, 100)
	w.exec(failAt33)
	w.enqueue("go", "public.items", 100, 100)
	w.exec(`UPDATE bbm.batched_background_migrations SET on_row_error = 'quarantine'`)
	do := func(ctx context.Context, tx pgx.Tx, b work.Batch) (int64, error) {
		changed, err := b.Exec(ctx, tx, incrementBatch)
		if err != nil {
			return 0, fmt.Errorf("count: %w", err)
		}
		return changed, nil
	}
	require.NoError(t, w.runUntilIdle(goWork(do)))
	require.Equal(t, []string{"33"}, w.leftOut())
	require.Equal(t, 99, one[int](w, `SELECT sum(n) FROM public.items`))
	dbtest.CheckHistory(t, w.conn, "go")

	w.exec(`ALTER TABLE public.items DROP CONSTRAINT not_33`)
	w.exec(`DELETE FROM public.items WHERE id = 32; INSERT INTO public.items VALUES (32)`)
	w.retryQuarantined("go", 1)
	require.NoError(t, w.runUntilIdle(goWork(do)))
	require.Empty(t, w.leftOut())
	require.Equal(t, []string{"32"}, one[[]string](w, `SELECT array_agg(id::text) FROM public.items WHERE n <> 1`), "a row that came later is not the one that was left out")
	dbtest.CheckHistory(t, w.conn, "go")
}

func TestARowThatAWorkInGoBlamesIsFoundAndLeftOut(t *testing.T) {
	w := setup(t, 100)
	w.enqueue("go", "public.items", 100, 100)
	w.exec(`UPDATE bbm.batched_background_migrations SET max_attempts = 1`)
	of := goWork(func(ctx context.Context, tx pgx.Tx, b work.Batch) (int64, error) {
		rows, err := b.Query(ctx, tx, `SELECT i.id FROM public.items AS i WHERE @batch(i)`)
		if err != nil {
			return 0, err
		}
		var id int
		_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
			if id == 33 || id == 34 {
				return &work.RowError{Err: errors.New("it does not parse")}
			}
			return nil
		})
		if err != nil {
			return 0, fmt.Errorf("parse: %w", err)
		}
		return b.Exec(ctx, tx, incrementBatch)
	})
	require.Error(t, w.runUntilIdle(of))
	require.Contains(t, one[string](w, `SELECT failure_message FROM bbm.batched_background_migrations`),
		"*errors.errorString on the row with (id) = (33): parse: it does not parse")
	require.Equal(t, 32, one[int](w, `SELECT sum(n) FROM public.items`), "those before it are changed")

	w.exec(`UPDATE bbm.batched_background_migrations SET on_row_error = 'quarantine'`)
	w.retry("go", of)
	require.Equal(t, "finished", w.status("go"))
	require.Equal(t, []string{"33", "34"}, w.leftOut())
	require.Zero(t, one[int](w, `SELECT count(*) FROM public.items WHERE n <> (id NOT IN (33, 34))::int`))
	w.retryQuarantined("go", 2)
	require.NoError(t, w.runUntilIdle(of))
	require.Equal(t, []string{"33", "34"}, w.leftOut(), "they come back")
	dbtest.CheckHistory(t, w.conn, "go")
}

func TestAnErrorThatAWorkInGoMadeUpIsAFailedAttempt(t *testing.T) {
	w := setup(t, 10)
	w.enqueue("go", "public.items", 10, 10)
	w.exec(`UPDATE bbm.batched_background_migrations SET max_attempts = 1`)
	require.Error(t, w.runUntilIdle(goWork(func(context.Context, pgx.Tx, work.Batch) (int64, error) { return 0, &pgconn.PgError{Message: "boom"} })))
	require.Contains(t, one[string](w, `SELECT failure_message FROM bbm.batched_background_migrations`), "boom")
	dbtest.CheckHistory(t, w.conn, "go")
}

func TestAPanicAndAnErrorOfGoAreNotNarrowedDown(t *testing.T) {
	for name, do := range map[string]work.DoFunc{
		"a panic":  func(context.Context, pgx.Tx, work.Batch) (int64, error) { panic("boom") },
		"an error": func(context.Context, pgx.Tx, work.Batch) (int64, error) { return 0, fmt.Errorf("boom") },
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t, 100)
			calls := 0
			w.enqueue("go", "public.items", 100, 100)
			w.exec(`UPDATE bbm.batched_background_migrations SET on_row_error = 'quarantine', max_attempts = 2`)
			require.Error(t, w.runUntilIdle(goWork(func(ctx context.Context, tx pgx.Tx, b work.Batch) (int64, error) {
				calls++
				return do(ctx, tx, b)
			})))
			require.Equal(t, 2, calls, "one for each attempt")
			require.Empty(t, w.leftOut())
			require.Nil(t, one[[]string](w, `SELECT exception_key FROM bbm.batched_background_migration_jobs`))
			dbtest.CheckHistory(t, w.conn, "go")
		})
	}
}

func TestRowsOfRepeatedKeysAreNotNarrowedDown(t *testing.T) {
	w := setup(t, 0)
	w.exec(`CREATE TABLE public.keys (id int NOT NULL, n int NOT NULL DEFAULT 0 CONSTRAINT sound CHECK (n = 0)); CREATE INDEX ON public.keys (id)`)
	w.exec(`INSERT INTO public.keys SELECT g / 10 FROM generate_series(1, 100) AS g`)
	w.enqueue("count", "public.keys", 50, 50)
	w.exec(`UPDATE bbm.batched_background_migrations SET on_row_error = 'quarantine', max_attempts = 1`)
	tries, err := w.runCounting(counter(t, "public.keys", "id", "-- repeated_keys: yes"))
	require.Error(t, err)
	require.Equal(t, 1, tries)
	require.Contains(t, one[string](w, `SELECT failure_message FROM bbm.batched_background_migrations`),
		"check_violation, constraint sound: not narrowed down to a row, since its keys may be repeated; new row")
	require.Empty(t, w.leftOut())
	dbtest.CheckHistory(t, w.conn, "count")
}
