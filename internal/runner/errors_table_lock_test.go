package runner_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/control"
	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

// tableLocks keep everybody from changing rows.
var tableLocks = map[string]string{
	"to make an index":   `LOCK TABLE public.items IN SHARE MODE`,
	"to change its form": `LOCK TABLE public.items IN ACCESS EXCLUSIVE MODE`,
}

func TestATableLockInTheMiddleOfAJobHoldsTheMigrationAndNamesWhoHasIt(t *testing.T) {
	for name, lock := range tableLocks {
		t.Run(name, func(t *testing.T) {
			w := setup(t, 40)
			w.enqueue("count", "public.items", 40, 1) // the row to be blamed would be known
			w.exec(`UPDATE bbm.batched_background_migrations SET max_attempts = 1, awaited_transactions = '{}'`)
			goOn, stop := w.startMidway(16, w.impatient(), parse(t, "count", increment))
			holder := w.holder(lock)
			_, err := holder.Exec(w.ctx, `SET application_name = 'psql'`)
			require.NoError(t, err)
			goOn()
			for range 4 { // as often as it takes
				require.Eventually(t, func() bool {
					all, err := w.control().Status(w.ctx, "count")
					require.NoError(t, err)
					return all[0].Jobs.Running == 0 && all[0].WaitingFor != nil &&
						strings.Contains(*all[0].WaitingFor, fmt.Sprintf("blocked by process %d (psql) on public.items since 20", pidOf(holder)))
				}, 30*time.Second, 10*time.Millisecond)
				require.NoError(t, w.control().Resume(w.ctx, "count", "", false))
			}
			w.noAttempt()
			require.Zero(t, one[int](w, `SELECT count(*) FROM bbm.batched_background_migration_jobs WHERE exception_key IS NOT NULL OR stalls > 0`))
			require.NoError(t, stop())
			require.NoError(t, holder.Rollback(w.ctx))
			require.NoError(t, w.control().Resume(w.ctx, "count", "", false))
			require.NoError(t, w.runUntilIdle(parse(t, "count", increment)))
			w.eachOnce("count")
		})
	}
}

func TestATableLockThatIsAwaitedBehindAReaderHoldsTheMigrationAndNamesBoth(t *testing.T) {
	w := setup(t, 40)
	w.enqueue("count", "public.items", 40, 8)
	w.exec(`UPDATE bbm.batched_background_migrations SET awaited_transactions = '{}'`)
	goOn, stop := w.startMidway(16, w.impatient(), parse(t, "count", increment))
	reader := w.holder(`SELECT FROM public.items LIMIT 1`)
	altering := dbtest.Connect(t, w.url)
	altered := make(chan error, 1)
	go func() {
		_, err := altering.Exec(w.ctx, `ALTER TABLE public.items ADD COLUMN extra int`)
		altered <- err
	}()
	w.waitsForLock(altering.PgConn().PID())
	goOn()
	w.eventually(`SELECT hold_reason LIKE $1 FROM bbm.batched_background_migrations`,
		fmt.Sprintf("blocked by process %d on public.items since %%, which itself waits for process %d", altering.PgConn().PID(), pidOf(reader)))
	w.noAttempt()
	require.NoError(t, reader.Rollback(w.ctx))
	require.NoError(t, <-altered)
	require.NoError(t, w.control().Resume(w.ctx, "count", "", false))
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	w.eachOnce("count")
}

func TestAStatementIsPreparedWithThePatienceOfASubBatch(t *testing.T) {
	w := setup(t, 40)
	w.enqueue("count", "public.items", 40, 8)
	w.exec(`UPDATE bbm.batched_background_migrations SET awaited_transactions = '{}'`)
	config := w.impatient()
	config.LockTimeout = 100 * time.Millisecond
	goOn, stop := w.startMidway(16, config, parse(t, "count", increment))
	holder := w.holder(tableLocks["to change its form"])
	goOn()
	longest := 0.0
	for !one[bool](w, `SELECT coalesce(on_hold_until > now() AND hold_reason LIKE 'blocked%', false) FROM bbm.batched_background_migrations`) {
		longest = max(longest, one[float64](w, `SELECT coalesce(max(extract(EPOCH FROM clock_timestamp() - waitstart)), 0)::float8 FROM pg_locks
			WHERE NOT granted AND relation = 'public.items'::regclass`))
		require.Less(t, longest, 0.8)
	}
	require.NoError(t, holder.Rollback(w.ctx))
	require.NoError(t, stop())
	require.Greater(t, longest, 0.0)
}

func TestStatusNamesWhoKeepsARunningMigrationFromGoingOn(t *testing.T) {
	for name, c := range map[string]struct{ lock, on string }{
		"a table that is locked": {tableLocks["to make an index"], " on public.items"},
		"a row that is locked":   {`SELECT FROM public.items WHERE id = 17 FOR UPDATE`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t, 40)
			w.enqueue("count", "public.items", 40, 8)
			config := w.daemon()
			config.LockTimeout = time.Minute
			goOn, stop := w.startMidway(16, config, parse(t, "count", increment))
			holder := w.holder(c.lock)
			goOn()
			var m control.Migration
			blocked := fmt.Sprintf("blocked by process %d%s since 20", pidOf(holder), c.on)
			require.Eventually(t, func() bool {
				all, err := w.control().Status(w.ctx, "count")
				require.NoError(t, err)
				m = all[0]
				return m.WaitingFor != nil
			}, 30*time.Second, 10*time.Millisecond)
			require.Contains(t, *m.WaitingFor, blocked)
			require.Nil(t, m.RowsPerSecond)
			require.Nil(t, m.ETASeconds)

			// Without the right to look at others, only that is said which everybody sees.
			role := "viewer_" + one[string](w, `SELECT oid::text FROM pg_database WHERE datname = current_database()`)
			w.exec(`CREATE ROLE ` + role)
			defer w.exec(`DROP OWNED BY ` + role + `; DROP ROLE ` + role)
			w.exec(`GRANT USAGE ON SCHEMA bbm TO ` + role + `; GRANT SELECT ON ALL TABLES IN SCHEMA bbm TO ` + role + `; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA bbm TO ` + role)
			w.exec(`SET ROLE ` + role)
			all, err := w.control().Status(w.ctx, "count")
			w.exec(`RESET ROLE`)
			require.NoError(t, err)
			require.Equal(t, fmt.Sprintf("blocked by process %d%s", pidOf(holder), c.on), *all[0].WaitingFor)

			require.NoError(t, holder.Rollback(w.ctx))
			w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
			require.NoError(t, stop())
			w.eachOnce("count")
		})
	}
}
