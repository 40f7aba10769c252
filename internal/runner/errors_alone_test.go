package runner_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// besides makes a second table with a migration of its own, which has to be done whatever happens
// to the first.
func (w *world) besides() *work.Work {
	w.t.Helper()
	w.exec(`CREATE TABLE public.others (id bigint PRIMARY KEY, n integer NOT NULL DEFAULT 0); INSERT INTO public.others SELECT g FROM generate_series(1, 20) AS g`)
	w.enqueue("others", "public.others", 5, 5)
	w.exec(`UPDATE bbm.batched_background_migrations SET awaited_transactions = '{}' WHERE name = 'others'`) // it does not wait for who holds the lock
	return parse(w.t, "others", strings.NewReplacer("items AS i", "others AS o", "@batch(i)", "@batch(o)", "items", "others").Replace(increment))
}

// othersAreDone waits until the second migration is, and proves that no step ended early meanwhile.
func (w *world) othersAreDone() {
	w.t.Helper()
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations WHERE name = 'others'`)
	require.Zero(w.t, one[int](w, `SELECT count(*) FROM public.others WHERE n <> 1`))
	require.Zero(w.t, w.counted("step failed"))
}

// loseRunner leaves a job of ten rows running in a slot, as a runner that was killed does, after so
// many losses before.
func (w *world) loseRunner(count *work.Work, slot, stalls int) {
	w.t.Helper()
	w.enqueue("count", "public.items", 10, 10)
	w.exec(`UPDATE bbm.batched_background_migrations SET status = 'running', work_checksum = $1, cursor_columns = '{id}', max_key = '{30}', frontier_key = '{10}',
		batch_size = 10, awaited_transactions = '{}' WHERE name = 'count'`, count.Checksum())
	w.exec(`INSERT INTO bbm.batched_background_migration_transition_logs (batched_background_migration_id, previous_status, next_status, changed_by)
		SELECT id, 'active', 'running', 'test' FROM bbm.batched_background_migrations WHERE name = 'count'`)
	w.exec(`WITH j AS (INSERT INTO bbm.batched_background_migration_jobs (batched_background_migration_id, until_key, status, slot, runner, claims, stalls)
		SELECT id, '{10}', 'running', $1, 'a runner that was killed', 1, $2 FROM bbm.batched_background_migrations WHERE name = 'count' RETURNING id)
		INSERT INTO bbm.batched_background_migration_job_transition_logs (batched_background_migration_job_id, previous_status, next_status, attempt)
		SELECT j.id, p::bbm.job_status, n::bbm.job_status, 1 FROM j, (VALUES (NULL, 'pending'), ('pending', 'running')) AS v (p, n)`, slot, stalls)
}

func TestALostJobThatIsLockedKeepsNothingElseWaiting(t *testing.T) {
	const jobs, migrations = `SELECT FROM bbm.batched_background_migration_jobs FOR UPDATE`,
		`SELECT FROM bbm.batched_background_migrations WHERE name = 'count' FOR UPDATE`
	for name, c := range map[string]struct {
		lock         string
		slot, stalls int
	}{
		"its row":                   {jobs, 7, 0},
		"its row, in the only slot": {jobs, 1, 0},
		"its migration's row, at its last attempt":                   {migrations, 7, 4},
		"its migration's row, which is to be held":                   {migrations, 7, 2},
		"its migration's row, in the only slot, at its last attempt": {migrations, 1, 4},
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t, 30)
			count := parse(t, "count", increment)
			w.loseRunner(count, c.slot, c.stalls)
			w.exec(`UPDATE bbm.batched_background_migrations SET max_attempts = 1`)
			others := w.besides()
			holder := w.holder(c.lock)
			stop := w.start(w.runner(w.impatient(), count, others))
			w.othersAreDone()
			require.LessOrEqual(t, w.counted("others hold its row"), 1)
			require.NoError(t, holder.Rollback(w.ctx))
			if c.stalls == 4 {
				w.eventually(`SELECT status = 'failed' FROM bbm.batched_background_migrations WHERE name = 'count'`)
				require.NoError(t, stop())
				w.retry("count", count, others)
			} else {
				w.eventually(`SELECT status <> 'running' OR claims > 1 FROM bbm.batched_background_migration_jobs ORDER BY id LIMIT 1`)
				require.NoError(t, stop())
				require.NoError(t, w.control().Resume(w.ctx, "count", "", false))
				require.NoError(t, w.runUntilIdle(count, others))
			}
			require.Equal(t, "finished", w.status("count"))
			require.Zero(t, one[int](w, `SELECT count(*) FROM public.items WHERE n <> 1`))
		})
	}
}

func TestAMigrationThatCannotBeRejectedKeepsNothingElseWaiting(t *testing.T) {
	for name, spoil := range map[string]string{
		"before it is prepared": `ALTER TABLE public.items DROP COLUMN n`,
		"between two jobs":      `ALTER TABLE public.items RENAME TO elsewhere`,
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t, 30)
			count := parse(t, "count", increment)
			if name == "between two jobs" {
				w.loseRunner(count, 7, 0)
			} else {
				w.enqueue("count", "public.items", 10, 10)
			}
			w.exec(spoil)
			others := w.besides()
			// Its row can be read, and may not be changed.
			w.exec(`CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = 'lock_not_available'; END $$`)
			w.exec(`CREATE TRIGGER refuse BEFORE UPDATE ON bbm.batched_background_migrations FOR EACH ROW WHEN (NEW.status = 'failed') EXECUTE FUNCTION public.refuse()`)
			stop := w.start(w.runner(w.impatient(), count, others))
			w.othersAreDone()
			require.NoError(t, stop())
			require.Contains(t, w.log.String(), "migration could not be set aside")
			w.exec(`DROP TRIGGER refuse ON bbm.batched_background_migrations`)
			require.Error(t, w.runUntilIdle(count, others))
			require.Equal(t, "failed", w.status("count"))
		})
	}
}

func TestASuccessThatCannotBeRecordedKeepsNothingElseWaiting(t *testing.T) {
	for name, lock := range map[string]string{
		"the migration's row is locked": `SELECT FROM bbm.batched_background_migrations WHERE name = 'count' FOR UPDATE`,
		"the job's row is locked":       `SELECT FROM bbm.batched_background_migration_jobs ORDER BY id LIMIT 1 FOR UPDATE`,
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t, 10)
			w.enqueue("count", "public.items", 10, 10)
			count := parse(t, "count", increment)
			others := w.besides()
			w.exec(`UPDATE bbm.batched_background_migrations SET status = 'paused', parallelism = 1 WHERE name = 'others'`)
			// The last sub-batch lets another session take the lock as soon as it has committed.
			w.exec(`CREATE FUNCTION public.wait_here() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(50); RETURN NULL; END $$`)
			w.exec(`CREATE TRIGGER wait_here AFTER UPDATE ON public.items FOR EACH STATEMENT EXECUTE FUNCTION public.wait_here()`)
			gate := dbtest.Connect(t, w.url)
			_, err := gate.Exec(w.ctx, `SELECT pg_advisory_lock(50)`)
			require.NoError(t, err)
			config := w.impatient()
			config.LockTimeout = 500 * time.Millisecond
			stop := w.start(w.runner(config, count, others))
			w.blocked()
			holder := dbtest.Connect(t, w.url)
			waits := make(chan error, 1)
			go func() { _, err := holder.Exec(w.ctx, "BEGIN; "+lock); waits <- err }()
			if name == "the job's row is locked" {
				w.waitsForLock(holder.PgConn().PID())
			} else {
				require.NoError(t, <-waits)
				waits <- nil
			}
			_, err = gate.Exec(w.ctx, `SELECT pg_advisory_unlock_all()`)
			require.NoError(t, err)
			require.NoError(t, <-waits)
			w.exec(`UPDATE bbm.batched_background_migrations SET status = 'active' WHERE name = 'others'`)
			w.othersAreDone()
			_, err = holder.Exec(w.ctx, `ROLLBACK`)
			require.NoError(t, err)
			w.eventually(`SELECT count(*) = 0 FROM bbm.batched_background_migration_jobs WHERE status = 'running'`)
			require.NoError(t, stop())
			require.NoError(t, w.runUntilIdle(count, others))
			require.Equal(t, "finished", w.status("count"))
			require.Zero(t, one[int](w, `SELECT count(*) FROM public.items WHERE n <> 1`))
		})
	}
}
