package runner_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/runner"
)

func TestADBAsCancelHoldsTheMigrationBrieflyAndIsNoAttempt(t *testing.T) {
	w := setup(t, 100)
	unblock := w.block()
	w.enqueue("count", "public.items", 100, 10)
	config := w.daemon()
	config.LockTimeout = time.Minute
	stop := w.start(w.runner(config, parse(t, "count", blocking)))
	w.exec(`SELECT pg_cancel_backend($1)`, w.blocked())
	w.eventually(`SELECT on_hold_until > now() AND hold_reason LIKE 'query_canceled: %' FROM bbm.batched_background_migrations`)
	w.eventually(`SELECT EXISTS (SELECT FROM bbm.batched_background_migration_job_transition_logs
		WHERE previous_status = 'running' AND next_status = 'pending' AND exception_class = 'query_canceled')`)
	unblock()
	require.NoError(t, w.control().Resume(w.ctx, "count", "", false))
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	w.eachOnce("count")
	w.noAttempt()
}

// linger makes a statement that changes more than so many rows, or this one, take far longer than any timeout.
func (w *world) linger(rows, row int) {
	w.t.Helper()
	w.exec(`CREATE FUNCTION public.linger() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN PERFORM pg_sleep(600) WHERE (SELECT count(*) > TG_ARGV[0]::int OR bool_or(id = TG_ARGV[1]::int) FROM changed); RETURN NULL; END $$`)
	w.exec(fmt.Sprintf(`CREATE TRIGGER linger AFTER UPDATE ON public.items REFERENCING NEW TABLE AS changed
		FOR EACH STATEMENT EXECUTE FUNCTION public.linger(%d, %d)`, rows, row))
}

func TestAStatementTimeoutHalvesTheSubBatchUntilItFits(t *testing.T) {
	w := setup(t, 6)
	w.linger(2, 0)
	w.enqueue("count", "public.items", 4096, 4096)
	config := w.config()
	config.StatementTimeout, config.LossBase = 250*time.Millisecond, time.Millisecond
	require.NoError(t, w.runner(config, parse(t, "count", increment)).Run(w.ctx))
	require.Greater(t, w.counted("statement timeout"), 10, "more than what contention may cost")
	w.eachOnce("count")
	w.noAttempt()
}

func TestARowThatTimesOutAloneIsAFailedAttempt(t *testing.T) {
	w := setup(t, 8)
	w.linger(8, 5)
	w.enqueue("count", "public.items", 8, 4)
	w.exec(`UPDATE bbm.batched_background_migrations SET max_attempts = 1`)
	config := w.config()
	config.StatementTimeout, config.LossBase = 250*time.Millisecond, time.Millisecond
	var failed *runner.MigrationsFailedError
	require.ErrorAs(t, w.runner(config, parse(t, "count", increment)).Run(w.ctx), &failed)
	require.Equal(t, "query_canceled", one[string](w, `SELECT exception_class FROM bbm.batched_background_migration_jobs`))
	require.Equal(t, 4, one[int](w, `SELECT sum(n)::int FROM public.items`))
	dbtest.CheckHistory(t, w.conn, "count")
	w.exec(`DROP TRIGGER linger ON public.items`)
	w.retry("count", parse(t, "count", increment))
	w.eachOnce("count")
}
