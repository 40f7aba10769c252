package runner_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/runner"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// statementTracer calls back before each statement that is sent, with its text.
type statementTracer func(ctx context.Context, conn *pgx.Conn, sql string)

func (f statementTracer) TraceQueryStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	f(ctx, conn, data.SQL)
	return ctx
}
func (statementTracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// traced is a runner whose statements are told before they are sent.
func (w *world) traced(config runner.Config, tell statementTracer, works ...*work.Work) *runner.Runner {
	w.t.Helper()
	connConfig, err := pgx.ParseConfig(w.url)
	require.NoError(w.t, err)
	connConfig.Tracer = tell
	registry, err := work.NewRegistry(works...)
	require.NoError(w.t, err)
	r, err := runner.New(connConfig, registry, config)
	require.NoError(w.t, err)
	return r
}

// ofOthers makes a second table and its work.
func (w *world) ofOthers(rows int) *work.Work {
	w.t.Helper()
	w.exec(`CREATE TABLE public.others (id bigint PRIMARY KEY, n integer NOT NULL DEFAULT 0)`)
	w.exec(`INSERT INTO public.others (id) SELECT g FROM generate_series(1, $1::int) AS g`, rows)
	return parse(w.t, "others", strings.NewReplacer("items AS i", "others AS o", "@batch(i)", "@batch(o)", "items", "others").Replace(increment))
}

func TestAnIntervalBelowThePollIntervalIsKeptAndNoIdleRunnerPollsForIt(t *testing.T) {
	const jobs, interval = 15, 100 * time.Millisecond
	w := setup(t, jobs)
	w.enqueue("count", "public.items", 1, 1)
	w.exec(`UPDATE bbm.batched_background_migrations SET job_interval = $1, awaited_transactions = '{}'`, interval)
	config := w.daemon()
	config.PollInterval = 30 * time.Second
	var looks atomic.Int64
	count := func(_ context.Context, _ *pgx.Conn, sql string) {
		if strings.Contains(sql, "name: MigrationLookAhead ") {
			looks.Add(1)
		}
	}
	stop := w.start(w.traced(config, count, parse(t, "count", increment)))
	for range 3 { // that are idle
		defer func(stop func() error) { require.NoError(t, stop()) }(w.start(w.traced(config, count, parse(t, "count", increment))))
	}
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	w.eachOnce("count")
	require.True(t, one[bool](w, `SELECT min(j.started_at - p.started_at) >= $1 FROM bbm.batched_background_migration_jobs AS j
		JOIN bbm.batched_background_migration_jobs AS p ON p.until_key = j.after_key`, interval))
	require.Less(t, looks.Load(), int64(4*jobs), "looks that found nothing")
}

func TestAnIdleRunnerRestsForThePollIntervalAtLeastHoweverLatelyItWorked(t *testing.T) {
	const looks, poll = 6, 200 * time.Millisecond
	for name, enqueue := range map[string]bool{"that has just worked": true, "that has found nothing": false} {
		t.Run(name, func(t *testing.T) {
			w := setup(t, 10)
			if enqueue {
				w.enqueue("count", "public.items", 10, 10)
				require.NoError(t, w.runUntilIdle()) // nobody has the work yet
			}
			times := make(chan time.Time, 1000)
			config := w.daemon()
			config.PollInterval = poll
			w.start(w.traced(config, func(_ context.Context, _ *pgx.Conn, sql string) {
				if strings.Contains(sql, "name: MigrationLookAhead ") {
					times <- time.Now()
				}
			}, parse(t, "count", increment)))
			<-times // the listener wakes everybody once, when it is connected
			first, last := <-times, time.Time{}
			for range looks {
				last = <-times
			}
			require.GreaterOrEqual(t, last.Sub(first), (looks-1)*(poll/2-10*time.Millisecond), "looks that found nothing")
			require.Equal(t, enqueue, one[int](w, `SELECT count(*) FROM bbm.batched_background_migrations WHERE status = 'finished'`) == 1)
		})
	}
}

func TestAJobThatIsDueLaterWakesItsRunnerAtThatMoment(t *testing.T) {
	for name, wait := range map[string]string{
		"the end of a hold": `UPDATE bbm.batched_background_migrations SET on_hold_until = now() + interval '1 s', hold_reason = 'test'`,
		"the next attempt of a job": `WITH cut AS (UPDATE bbm.batched_background_migrations SET frontier_key = '{5}', max_key = '{5}' RETURNING id)
			INSERT INTO bbm.batched_background_migration_jobs (batched_background_migration_id, until_key, status, next_attempt_at)
			SELECT id, '{5}', 'pending', now() + interval '1 s' FROM cut`,
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t, 5)
			others := w.ofOthers(1)
			w.enqueue("count", "public.items", 5, 5)
			count := parse(t, "count", increment)
			w.exec(`UPDATE bbm.batched_background_migrations SET work_checksum = $1, cursor_columns = '{id}', max_key = '{5}'`, count.Checksum())
			w.exec(wait)
			w.enqueue("others", "public.others", 1, 1) // it has something to do a moment before
			config := w.daemon()
			config.PollInterval = 30 * time.Second
			stop := w.start(w.runner(config, count, others))
			w.eventually(`SELECT n = 1 FROM public.items WHERE id = 5`)
			require.NoError(t, stop())
		})
	}
}

func TestTheLockTableIsReadOnceForALookHoweverManyMigrationsWait(t *testing.T) {
	w := setup(t, 1)
	w.exec(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET track_functions = ''all''', current_database()); END $$`)
	works := w.crowded(100, `max_key = NULL, status = 'active'`)
	w.holder(`SELECT txid_current()`)
	w.exec(`UPDATE bbm.batched_background_migrations SET awaited_transactions = bbm.open_transactions()`)
	config := w.daemon()
	config.PollInterval = 50 * time.Millisecond
	var looks atomic.Int64
	stop := w.start(w.traced(config, func(_ context.Context, _ *pgx.Conn, sql string) {
		if strings.Contains(sql, "name: MigrationLookAhead ") {
			looks.Add(1)
		}
	}, works...))
	require.Eventually(t, func() bool { return looks.Load() >= 20 }, 30*time.Second, time.Millisecond)
	require.NoError(t, stop())
	reads := `SELECT coalesce(sum(calls), 0)::int FROM pg_stat_user_functions WHERE funcname = 'open_transactions'`
	w.eventually(`SELECT (` + reads + `) > 1`) // a session tells when it ends
	require.LessOrEqual(t, one[int](w, reads), int(looks.Load())+3)
}

func TestASlotThatCannotBeGivenBackEndsItsSessionAndIsFree(t *testing.T) {
	w := setup(t, 10)
	w.enqueue("count", "public.items", 10, 10)
	var once atomic.Bool
	stop := w.start(w.traced(w.daemon(), func(ctx context.Context, conn *pgx.Conn, sql string) {
		if strings.Contains(sql, "name: SlotUnlock ") && once.CompareAndSwap(false, true) {
			// As anything in the session could: what is left of the two holds would keep the slot until the
			// session ends.
			_, err := conn.PgConn().Exec(ctx, "SELECT pg_advisory_unlock(1650617601, 1)").ReadAll()
			require.NoError(t, err)
		}
	}, parse(t, "count", increment)))
	require.Eventually(t, func() bool { return w.logged("unlock slot 1") && w.logged("reconnecting") }, 30*time.Second, time.Millisecond)
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	w.eventually(`SELECT NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 1650617601)`)
	require.NoError(t, stop())
	w.eachOnce("count")
}

func TestUpdatesOfMigrationsAndWalksAreHOT(t *testing.T) {
	w := withOldForm(t, 2_000)
	w.enqueue("convert", "public.items", 10, 10)
	w.exec(`UPDATE bbm.batched_background_migrations SET awaited_transactions = '{}'`)
	require.NoError(t, w.runUntilIdle(parse(t, "convert", convert)))
	w.proved()
	share := func(table string) string {
		return fmt.Sprintf(`SELECT n_tup_hot_upd > 0.75 * n_tup_upd AND n_tup_upd > 50 FROM pg_stat_user_tables WHERE relname = '%s'`, table)
	}
	w.eventually(`SELECT n_tup_upd > 200 FROM pg_stat_user_tables WHERE relname = 'batched_background_migrations'`)
	w.eventually(share("batched_background_migrations"))
	w.eventually(share("batched_background_migration_verifications"))
}

func TestLockedTablesOfNewMigrationsDoNotSlowAnother(t *testing.T) {
	const locked, jobs = 8, 20
	w := setup(t, jobs)
	works := w.crowded(locked, `max_key = NULL, status = 'active'`)
	w.holder(fmt.Sprintf(`DO $$ BEGIN FOR i IN 1..%d LOOP EXECUTE format('LOCK TABLE crowd.t%%s', i); END LOOP; END $$`, locked))
	w.enqueue("count", "public.items", 1, 1)
	w.exec(`UPDATE bbm.batched_background_migrations SET awaited_transactions = '{}'`)
	config := w.daemon()
	config.LockTimeout = time.Minute // a turn that waited once would take longer than the condition is waited for
	stop := w.start(w.runner(config, append(works, parse(t, "count", increment))...))
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations WHERE name = 'count'`)
	require.NoError(t, stop())
	w.eachOnce("count")
	require.Equal(t, locked, one[int](w, `SELECT count(*) FROM bbm.batched_background_migrations WHERE status = 'active' AND max_key IS NULL`))
}
