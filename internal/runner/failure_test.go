package runner_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/runner"
)

// failAt33 makes a check fail on one row until it is lifted.
const failAt33 = `ALTER TABLE public.items ADD CONSTRAINT not_33 CHECK (id <> 33 OR n = 0)`

func TestAFailingJobIsTriedAgainUpToTheLimitAndThenFailsItsMigration(t *testing.T) {
	w := setup(t, 100)
	w.exec(failAt33)
	w.enqueue("count", "public.items", 20, 10)
	w.exec(`UPDATE bbm.batched_background_migrations SET max_attempts = 3`)
	var failed *runner.MigrationsFailedError
	require.ErrorAs(t, w.runUntilIdle(parse(t, "count", increment)), &failed)
	require.Equal(t, []string{"count"}, failed.Names)

	require.Equal(t, "max_attempts", one[string](w, `SELECT failure_error_code::text FROM bbm.batched_background_migrations`))
	message := one[string](w, `SELECT failure_message FROM bbm.batched_background_migrations`)
	require.Contains(t, message, "check_violation")
	require.Contains(t, message, "not_33")
	require.Equal(t, 3, one[int](w, `SELECT attempts FROM bbm.batched_background_migration_jobs WHERE status = 'failed'`))
	require.Equal(t, 3, one[int](w, `SELECT count(*) FROM bbm.batched_background_migration_job_transition_logs
		WHERE previous_status = 'running' AND next_status = 'failed' AND exception_class = 'check_violation' AND exception_message LIKE '%not_33%'`))
	require.Equal(t, []int32{1, 2, 3}, one[[]int32](w, `SELECT array_agg(attempt ORDER BY id) FROM bbm.batched_background_migration_job_transition_logs
		WHERE next_status = 'failed'`))
	require.Equal(t, 32, one[int](w, `SELECT sum(n)::int FROM public.items WHERE id <= 40`), "all before the failing row is done, once")
	dbtest.CheckHistory(t, w.conn, "count")
}

func TestAJobThatFailedGoesOnFromItsProgressOnceTheCauseIsGone(t *testing.T) {
	w := setup(t, 100)
	w.exec(failAt33)
	w.enqueue("count", "public.items", 20, 5)
	w.exec(`UPDATE bbm.batched_background_migrations SET max_attempts = 1000`)
	stop := w.start(w.runner(w.daemon(), parse(t, "count", increment)))
	w.eventually(`SELECT EXISTS (SELECT FROM bbm.batched_background_migration_jobs WHERE attempts >= 2)`)
	w.eventually(`SELECT count(*) = 4 FROM bbm.batched_background_migration_jobs WHERE status = 'succeeded'`)
	w.exec(`ALTER TABLE public.items DROP CONSTRAINT not_33`)
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	w.eachOnce("count")
	require.Equal(t, "check_violation", one[string](w, `SELECT exception_class FROM bbm.batched_background_migration_jobs WHERE attempts > 0`))
}

func TestABoundaryQueryThatFailsHoldsTheMigration(t *testing.T) {
	w := setup(t, 20)
	w.enqueue("count", "public.items", 10, 10)
	w.exec(`UPDATE bbm.batched_background_migrations SET job_interval = '1 hour'`)
	config := w.daemon()
	config.LockTimeout = 30 * time.Millisecond
	stop := w.start(w.runner(config, parse(t, "count", increment)))
	w.eventually(`SELECT succeeded_jobs = 1 FROM bbm.batched_background_migrations`)
	other := dbtest.Connect(t, w.url)
	tx, err := other.Begin(w.ctx)
	require.NoError(t, err)
	_, err = tx.Exec(w.ctx, `LOCK TABLE public.items IN ACCESS EXCLUSIVE MODE`)
	require.NoError(t, err)
	w.exec(`UPDATE bbm.batched_background_migrations SET job_interval = '0'`)
	w.eventually(`SELECT on_hold_until > now() FROM bbm.batched_background_migrations`)
	require.Contains(t, one[string](w, `SELECT hold_reason FROM bbm.batched_background_migrations`), runner.ErrJobEndpointNotFound.Error())
	require.NoError(t, tx.Rollback(w.ctx))
	w.exec(`UPDATE bbm.batched_background_migrations SET on_hold_until = NULL, hold_reason = NULL`)
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	w.eachOnce("count")
}

func TestALongMessageIsCutAndNeverDropped(t *testing.T) {
	w := setup(t, 3)
	w.enqueue("shout", "public.items", 10, 10)
	w.exec(`UPDATE bbm.batched_background_migrations SET max_attempts = 1`)
	w.exec(`CREATE FUNCTION public.shout() RETURNS integer LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '%', repeat('é', 5000); END $$`)
	shout := parse(t, "shout", "-- description: d\n-- table: public.items\n-- cursor: id\n-- +bbm Work\nUPDATE public.items AS i SET n = public.shout() WHERE @batch(i)")
	require.Error(t, w.runUntilIdle(shout))
	require.Equal(t, strings.Repeat("é", 1000), one[string](w, `SELECT exception_message FROM bbm.batched_background_migration_job_transition_logs WHERE next_status = 'failed'`))
}
