package runner_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

func TestANarrowingStopsBetweenTwoTries(t *testing.T) {
	for name, tc := range map[string]struct{ stop, goOn string }{
		"paused":    {`pause`, `resume`},
		"cancelled": {`cancel`, ``},
		"disabled":  {`UPDATE bbm.fleet_settings SET execution_enabled = false`, `UPDATE bbm.fleet_settings SET execution_enabled = true`},
		"stopped":   {``, `SELECT`},
	} {
		t.Run(name, func(t *testing.T) {
			w := setupBad(t, 64, 64, 33)
			// A long rest behind the try that fails.
			w.exec(`UPDATE bbm.batched_background_migrations SET pause = '1 hour'`)
			stop := w.start(w.runner(w.daemon(), parse(t, "count", increment)))
			require.Eventually(t, func() bool { return w.logged("half of it is tried again") }, 30*time.Second, time.Millisecond)
			switch tc.stop {
			case "":
				require.NoError(t, stop())
			case "pause":
				require.NoError(t, w.control().Pause(w.ctx, "count", ""))
			case "cancel":
				require.NoError(t, w.control().Cancel(w.ctx, "count", ""))
			default:
				w.exec(tc.stop)
			}
			w.eventually(`SELECT status = 'pending' FROM bbm.batched_background_migration_jobs`)
			require.NoError(t, stop())
			require.Zero(t, one[int](w, `SELECT sum(n) FROM public.items`), "one try was made, and it was rolled back")
			require.Zero(t, one[int](w, `SELECT attempts FROM bbm.batched_background_migration_jobs`))
			dbtest.CheckHistory(t, w.conn, "count")
			if tc.goOn == "" {
				return
			}
			w.exec(`UPDATE bbm.batched_background_migrations SET pause = '0'`)
			if tc.goOn == "resume" {
				require.NoError(t, w.control().Resume(w.ctx, "count", "", false))
			} else {
				w.exec(tc.goOn)
			}
			require.NoError(t, w.runUntilIdle(parse(t, "count", increment)))
			require.Equal(t, []string{"33"}, w.leftOut())
			require.Equal(t, 63, one[int](w, `SELECT sum(n) FROM public.items`))
			dbtest.CheckHistory(t, w.conn, "count")
		})
	}
}

func TestALockIsWaitedOutWhileARowIsSearchedFor(t *testing.T) {
	w := setupBad(t, 64, 64, 33)
	w.exec(`UPDATE bbm.batched_background_migrations SET pause = '1 hour'`)
	config := w.daemon()
	config.LockTimeout = 30 * time.Millisecond
	stop := w.start(w.runner(config, parse(t, "count", increment)))
	require.Eventually(t, func() bool { return w.logged("half of it is tried again") }, 30*time.Second, time.Millisecond)
	tx, err := dbtest.Connect(t, w.url).Begin(w.ctx)
	require.NoError(t, err)
	_, err = tx.Exec(w.ctx, `SELECT FROM public.items WHERE id = 10 FOR UPDATE`)
	require.NoError(t, err)
	w.exec(`UPDATE bbm.batched_background_migrations SET pause = '0'`)
	require.Eventually(t, func() bool { return w.logged("lost to others") }, 30*time.Second, time.Millisecond)
	require.NoError(t, tx.Rollback(w.ctx))
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	require.Equal(t, []string{"33"}, w.leftOut())
	require.Zero(t, one[int](w, `SELECT count(*) FROM public.items WHERE n <> (id <> 33)::int`))
	require.Zero(t, one[int](w, `SELECT attempts FROM bbm.batched_background_migration_jobs`))
	dbtest.CheckHistory(t, w.conn, "count")
}

func TestTheSecondOfTwoRunnersGoesOnWhereTheFirstWasKilledWhileItSearched(t *testing.T) {
	w := setupBad(t, 64, 64, 33)
	w.exec(`UPDATE bbm.batched_background_migrations SET pause = '1 hour'`)
	// Killed in its rest behind a half that was committed.
	stop := w.start(w.runner(w.daemon(), parse(t, "count", increment)))
	require.Eventually(t, func() bool { return w.logged("half of it is tried again") }, 30*time.Second, time.Millisecond)
	w.exec(`UPDATE bbm.batched_background_migrations SET pause = '100 ms'`)
	w.eventually(`SELECT sum(n) > 0 FROM public.items`)
	w.exec(`SELECT pg_terminate_backend(l.pid) FROM pg_locks AS l
		WHERE l.locktype = 'advisory' AND l.classid = 1650617601 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
	w.eventually(`SELECT EXISTS (SELECT FROM bbm.batched_background_migration_job_transition_logs WHERE exception_class = 'RunnerLost')`)
	w.exec(`UPDATE bbm.batched_background_migrations SET pause = '0'`)
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	require.Equal(t, []string{"33"}, w.leftOut())
	require.Zero(t, one[int](w, `SELECT count(*) FROM public.items WHERE n <> (id <> 33)::int`))
	dbtest.CheckHistory(t, w.conn, "count")
}
