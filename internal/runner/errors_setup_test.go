package runner_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/runner"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// startMidway starts a runner and catches it in a long pause behind the sub-batch that ends with this row; goOn lets it go on.
func (w *world) startMidway(row int, config runner.Config, works ...*work.Work) (goOn func(), stop func() error) {
	w.t.Helper()
	w.exec(`CREATE FUNCTION public.rest() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN UPDATE bbm.batched_background_migrations SET pause = '1 hour'; RETURN NULL; END $$`)
	w.exec(fmt.Sprintf(`CREATE TRIGGER rest AFTER UPDATE ON public.items FOR EACH ROW WHEN (NEW.id = %d) EXECUTE FUNCTION public.rest()`, row))
	stop = w.start(w.runner(config, works...))
	w.eventually(`SELECT progress_key = $1 FROM bbm.batched_background_migration_jobs ORDER BY id DESC LIMIT 1`, []string{fmt.Sprint(row)})
	return func() { w.exec(`UPDATE bbm.batched_background_migrations SET pause = '0'`) }, stop
}

// startBetween starts a runner and catches it between the second job and the third; goOn lets it go on.
func (w *world) startBetween(config runner.Config, works ...*work.Work) (goOn func(), stop func() error) {
	w.t.Helper()
	w.exec(`CREATE FUNCTION public.rest() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN UPDATE bbm.batched_background_migrations SET job_interval = '1 hour'; RETURN NULL; END $$`)
	w.exec(`CREATE TRIGGER rest AFTER UPDATE ON public.items FOR EACH ROW WHEN (NEW.id = 20) EXECUTE FUNCTION public.rest()`)
	stop = w.start(w.runner(config, works...))
	w.eventually(`SELECT succeeded_jobs = 2 FROM bbm.batched_background_migrations`)
	return func() { w.exec(`UPDATE bbm.batched_background_migrations SET job_interval = '0'`) }, stop
}

// holder is another session with an open transaction.
func (w *world) holder(sql string) pgx.Tx {
	w.t.Helper()
	tx, err := dbtest.Connect(w.t, w.url).Begin(w.ctx)
	require.NoError(w.t, err)
	_, err = tx.Exec(w.ctx, sql)
	require.NoError(w.t, err)
	return tx
}

func pidOf(tx pgx.Tx) uint32 { return tx.Conn().PgConn().PID() }

// waitsForLock waits until a session waits for a lock.
func (w *world) waitsForLock(pid uint32) {
	w.t.Helper()
	w.eventually(`SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $1`, pid)
}

// setDatabase gives later sessions of the test's database a setting.
func (w *world) setDatabase(name, value string) {
	w.t.Helper()
	database := pgx.Identifier{one[string](w, `SELECT current_database()`)}.Sanitize()
	w.exec(fmt.Sprintf(`ALTER DATABASE %s SET %s = '%s'`, database, name, value))
}

// noteSizes makes the table note how many rows each committed sub-batch has changed.
func (w *world) noteSizes() {
	w.t.Helper()
	w.exec(`CREATE TABLE public.sizes (id bigint GENERATED ALWAYS AS IDENTITY, rows int)`)
	w.exec(`CREATE FUNCTION public.note_size() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN INSERT INTO public.sizes (rows) SELECT count(*) FROM changed; RETURN NULL; END $$`)
	w.exec(`CREATE TRIGGER note_size AFTER UPDATE ON public.items REFERENCING NEW TABLE AS changed
		FOR EACH STATEMENT EXECUTE FUNCTION public.note_size()`)
}

func (w *world) sizes() []int32 {
	w.t.Helper()
	return one[[]int32](w, `SELECT array_agg(rows ORDER BY id) FROM public.sizes`)
}

// noAttempt proves that nothing was counted as a failed attempt.
func (w *world) noAttempt() {
	w.t.Helper()
	require.Zero(w.t, one[int](w, `SELECT count(*) FROM bbm.batched_background_migration_jobs WHERE attempts > 0`))
	require.Zero(w.t, one[int](w, `SELECT count(*) FROM bbm.batched_background_migration_job_transition_logs WHERE next_status = 'failed'`))
}

// retry sets a migration going again whose cause of failure is gone, and runs it to its end.
func (w *world) retry(name string, works ...*work.Work) {
	w.t.Helper()
	require.NoError(w.t, w.control().Retry(w.ctx, name, "mended", false))
	require.NoError(w.t, w.runUntilIdle(works...))
}

func (w *world) counted(text string) int { return strings.Count(w.log.String(), text) }

// poison makes a work that does something to one row.
func poison(t *testing.T, row int, expression string) *work.Work {
	t.Helper()
	return parse(t, "count", strings.Replace(increment, "n + 1", fmt.Sprintf("n + CASE WHEN i.id = %d THEN %s ELSE 1 END", row, expression), 1))
}
