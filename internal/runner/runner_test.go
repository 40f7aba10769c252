package runner_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/runner"
)

func TestEachRowIsChangedExactlyOnce(t *testing.T) {
	w := setup(t, 1050)
	w.enqueue("count", "public.items", 100, 30)
	require.NoError(t, w.runUntilIdle(parse(t, "count", increment)))
	w.eachOnce("count")
	require.Equal(t, 11, one[int](w, `SELECT succeeded_jobs::int FROM bbm.batched_background_migrations`))
	require.Equal(t, 1050, one[int](w, `SELECT processed_rows::int FROM bbm.batched_background_migrations`))
	require.Equal(t, 1050, one[int](w, `SELECT affected_rows::int FROM bbm.batched_background_migrations`))
}

func TestNothingRunsWhileAGateIsClosed(t *testing.T) {
	w := setup(t, 10)
	w.enqueue("count", "public.items", 10, 10)
	config := w.config()
	config.Enabled = false
	require.ErrorIs(t, w.runner(config, parse(t, "count", increment)).Run(w.ctx), runner.ErrParameterOff)

	w.exec(`UPDATE bbm.fleet_settings SET execution_enabled = false`)
	require.ErrorIs(t, w.runUntilIdle(parse(t, "count", increment)), runner.ErrExecutionDisabled)
	require.Equal(t, "active", w.status("count"))
	require.Zero(t, one[int](w, `SELECT sum(n) FROM public.items`))

	stop := w.start(w.runner(w.daemon(), parse(t, "count", increment)))
	w.exec(`UPDATE bbm.fleet_settings SET execution_enabled = true`)
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	w.eachOnce("count")
}

func TestDisablingTheFleetStopsWithinASubBatch(t *testing.T) {
	w := setup(t, 1000)
	w.enqueue("count", "public.items", 1000, 1)
	stop := w.start(w.runner(w.daemon(), parse(t, "count", increment)))
	w.eventually(`SELECT EXISTS (SELECT FROM public.items WHERE n = 1)`)
	w.exec(`UPDATE bbm.fleet_settings SET execution_enabled = false`)
	w.eventually(`SELECT status = 'pending' FROM bbm.batched_background_migration_jobs`)
	require.Less(t, one[int](w, `SELECT sum(n)::int FROM public.items`), 1000)
	w.exec(`UPDATE bbm.fleet_settings SET execution_enabled = true`)
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	w.eachOnce("count")
}

func TestErrLockInUseIsNormal(t *testing.T) {
	w := setup(t, 10)
	w.enqueue("count", "public.items", 10, 10)
	w.exec(`SELECT pg_advisory_lock(1650617601, 1)`)
	stop := w.start(w.runner(w.daemon(), parse(t, "count", increment)))
	require.Eventually(t, func() bool { return w.logged(runner.ErrLockInUse.Error()) }, 30*time.Second, time.Millisecond)
	require.Zero(t, one[int](w, `SELECT sum(n) FROM public.items`))
	w.exec(`SELECT pg_advisory_unlock(1650617601, 1)`)
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	w.eachOnce("count")
}

func TestAWorkThatTheRunnerLacksIsLeftAlone(t *testing.T) {
	w := setup(t, 10)
	w.enqueue("other", "public.items", 10, 10)
	before := one[string](w, `SELECT m::text FROM bbm.batched_background_migrations AS m`)
	require.NoError(t, w.runUntilIdle(parse(t, "count", increment)))
	require.Equal(t, before, one[string](w, `SELECT m::text FROM bbm.batched_background_migrations AS m`))

	t.Run("nor one in another version", func(t *testing.T) {
		w.exec(`UPDATE bbm.batched_background_migrations SET work_name = 'count', work_checksum = 'another'`)
		before := one[string](w, `SELECT m::text FROM bbm.batched_background_migrations AS m`)
		require.NoError(t, w.runUntilIdle(parse(t, "count", increment)))
		require.Equal(t, before, one[string](w, `SELECT m::text FROM bbm.batched_background_migrations AS m`))
	})
}

func TestARowCommittedLateBelowTheUpperBoundIsChanged(t *testing.T) {
	w := setup(t, 100)
	w.exec(`DELETE FROM public.items WHERE id = 7`)
	late := dbtest.Connect(t, w.url)
	tx, err := late.Begin(w.ctx)
	require.NoError(t, err)
	_, err = tx.Exec(w.ctx, `INSERT INTO public.items (id) VALUES (7)`)
	require.NoError(t, err)

	w.enqueue("count", "public.items", 10, 10)
	stop := w.start(w.runner(w.daemon(), parse(t, "count", increment)))
	w.eventually(`SELECT cardinality(awaited_transactions) > 0 FROM bbm.batched_background_migrations`)
	require.Equal(t, "active", w.status("count"))
	require.NoError(t, tx.Commit(w.ctx))
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	w.eachOnce("count")
}

func TestATableThatGrowsDoesNotRunForEver(t *testing.T) {
	w := setup(t, 50)
	w.enqueue("grow", "public.items", 10, 10)
	grow := parse(t, "grow", `-- description: Count, and add a row behind the end for each.
-- table: public.items
-- cursor: id
-- +bbm Work
WITH counted AS (UPDATE public.items AS i SET n = n + 1 WHERE @batch(i) RETURNING i.id)
INSERT INTO public.items (id) SELECT c.id + 1000 FROM counted AS c`)
	require.NoError(t, w.runUntilIdle(grow))
	require.Equal(t, 50, one[int](w, `SELECT count(*) FROM public.items WHERE n = 1`))
	require.Equal(t, 50, one[int](w, `SELECT count(*) FROM public.items WHERE n = 0`))
	dbtest.CheckHistory(t, w.conn, "grow")
}

func TestRowsDeletedWhileItRunsAreNoTrouble(t *testing.T) {
	w := setup(t, 100)
	w.enqueue("drain", "public.items", 30, 10)
	drain := parse(t, "drain", `-- description: Delete.
-- table: public.items
-- cursor: id
-- +bbm Work
DELETE FROM public.items AS i WHERE @batch(i)`)
	require.NoError(t, w.runUntilIdle(drain))
	require.Zero(t, one[int](w, `SELECT count(*) FROM public.items`))
	dbtest.CheckHistory(t, w.conn, "drain")
}

func TestAnEmptyTableIsFinishedByTheRunnerToo(t *testing.T) {
	w := setup(t, 1)
	w.enqueue("count", "public.items", 10, 10)
	w.exec(`TRUNCATE public.items`)
	require.NoError(t, w.runUntilIdle(parse(t, "count", increment)))
	require.Equal(t, "finished", w.status("count"))
	dbtest.CheckHistory(t, w.conn, "count")
}

func TestADefinitionThatDoesNotHoldFailsTheMigrationWithItsCode(t *testing.T) {
	for _, tc := range []struct{ code, source string }{
		{"invalid_table", "-- description: d\n-- table: public.missing\n-- cursor: id\n-- +bbm Work\nUPDATE public.missing SET n = 0 WHERE @batch"},
		{"invalid_cursor", "-- description: d\n-- table: public.items\n-- cursor: n\n-- +bbm Work\nDELETE FROM public.items WHERE @batch"},
		{"invalid_work", "-- description: d\n-- table: public.items\n-- cursor: id\n-- +bbm Work\nUPDATE public.items SET gone = 0 WHERE @batch"},
		{"invalid_arguments", "-- description: d\n-- table: public.items\n-- cursor: id\n-- argument: a int\n-- +bbm Work\nUPDATE public.items SET n = @a WHERE @batch"},
	} {
		t.Run(tc.code, func(t *testing.T) {
			w := setup(t, 3)
			if tc.code == "invalid_cursor" {
				w.exec(`UPDATE public.items SET n = id`)
			}
			w.enqueue("broken", "public.items", 10, 10)
			var failed *runner.MigrationsFailedError
			require.ErrorAs(t, w.runUntilIdle(parse(t, "broken", tc.source)), &failed)
			require.Equal(t, []string{"broken"}, failed.Names)
			require.Equal(t, tc.code, one[string](w, `SELECT failure_error_code::text FROM bbm.batched_background_migrations`))
			require.NotEmpty(t, one[string](w, `SELECT failure_message FROM bbm.batched_background_migrations`))
			dbtest.CheckHistory(t, w.conn, "broken")
		})
	}
}

func TestUntilIdleLeavesWhatIsPausedOrHeld(t *testing.T) {
	w := setup(t, 10)
	w.exec(`SELECT bbm.enqueue('count', 'public.items', 'paused', paused => true)`)
	w.exec(`SELECT bbm.enqueue('count', 'public.items', 'held')`)
	w.exec(`UPDATE bbm.batched_background_migrations SET on_hold_until = now() + interval '1 hour', hold_reason = 'test' WHERE name = 'held'`)
	require.NoError(t, w.runUntilIdle(parse(t, "count", increment)))
	require.Equal(t, "paused", w.status("paused"))
	require.Equal(t, "active", w.status("held"))
}

func TestOnlyTheNamedMigrationRuns(t *testing.T) {
	w := setup(t, 10)
	w.exec(`SELECT bbm.enqueue('count', 'public.items', 'wanted')`)
	w.exec(`SELECT bbm.enqueue('count', 'public.items', 'other')`)
	config := w.config()
	config.Only = []string{"wanted"}
	require.NoError(t, w.runner(config, parse(t, "count", increment)).Run(w.ctx))
	w.eachOnce("wanted")
	require.Equal(t, "active", w.status("other"))
}

func TestTheLeastRecentlyClaimedTableComesFirst(t *testing.T) {
	w := setup(t, 40)
	w.exec(`CREATE TABLE public.others (id bigint PRIMARY KEY, n integer NOT NULL DEFAULT 0)`)
	w.exec(`INSERT INTO public.others (id) SELECT g FROM generate_series(1, 20) AS g`)
	w.enqueue("count", "public.items", 1, 1)
	w.enqueue("small", "public.others", 10, 10)
	small := parse(t, "small", "-- description: d\n-- table: public.others\n-- cursor: id\n-- +bbm Work\nUPDATE public.others AS o SET n = n + 1 WHERE @batch(o)")
	require.NoError(t, w.runUntilIdle(parse(t, "count", increment), small))
	w.eachOnce("count")
	require.True(t, one[bool](w, `SELECT s.finished_at < c.finished_at FROM bbm.batched_background_migrations AS s, bbm.batched_background_migrations AS c
		WHERE s.name = 'small' AND c.name = 'count'`), "the migration of minutes was starved")
}

func TestTheJobIntervalKeepsJobsApart(t *testing.T) {
	w := setup(t, 30)
	w.enqueue("count", "public.items", 10, 10)
	w.exec(`UPDATE bbm.batched_background_migrations SET job_interval = '150 ms'`)
	require.NoError(t, w.runUntilIdle(parse(t, "count", increment)))
	w.eachOnce("count")
	require.True(t, one[bool](w, `SELECT min(j.started_at - p.started_at) >= interval '150 ms'
		FROM bbm.batched_background_migration_jobs AS j JOIN bbm.batched_background_migration_jobs AS p ON p.until_key = j.after_key`))
}

// daemon is a runner's configuration that runs until it is stopped.
func (w *world) daemon() runner.Config {
	config := w.config()
	config.UntilIdle = false
	return config
}

func (w *world) logged(text string) bool { return strings.Contains(w.log.String(), text) }

func TestATransactionIsNeverLargerThanAskedHoweverLargeTheJob(t *testing.T) {
	const rows = 1_500 // more than one walk finds the ends of
	w := setup(t, rows)
	w.enqueue("small", "public.items", rows, 1)
	require.NoError(t, w.runUntilIdle(parse(t, "small", increment)))
	w.eachOnce("small")
	require.Equal(t, 1, one[int](w, `SELECT max(n) FROM (SELECT count(*) AS n FROM public.items GROUP BY xmin::text) AS transactions`))
}

func TestAMigrationThatWasHeldForASearchThatFailedGoesOn(t *testing.T) {
	w := setup(t, 30)
	w.enqueue("count", "public.items", 10, 5)
	w.exec(`UPDATE bbm.batched_background_migrations SET on_hold_until = now(), hold_reason = $1`, runner.ErrJobEndpointNotFound.Error()+": query_canceled")
	require.NoError(t, w.runUntilIdle(parse(t, "count", increment)))
	w.eachOnce("count")
}
