package runner_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/control"
	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// waitsFor waits until status says why the migration does not go on.
func (w *world) waitsFor(reason string) {
	w.t.Helper()
	var last string
	require.Eventually(w.t, func() bool {
		migrations, err := w.control().Status(w.ctx, "count")
		require.NoError(w.t, err)
		if migrations[0].WaitingFor != nil {
			last = *migrations[0].WaitingFor
		}
		return strings.Contains(last, reason)
	}, 30*time.Second, 5*time.Millisecond, "waits for %s", reason)
}

// As it is when the clock of the server was a century ahead, and was set right.
func TestAClockThatIsSetBackLetsNothingWaitSilentlyOrForEver(t *testing.T) {
	for name, tc := range map[string]struct{ ahead, reason string }{
		"a hold":                    {`UPDATE bbm.batched_background_migrations SET on_hold_until = now() + interval '100 years', hold_reason = 'disk_full: no'`, "on hold until {year}-"},
		"the start of the last job": {`UPDATE bbm.batched_background_migrations SET last_claimed_at = now() + interval '100 years'`, "the clock of the server was set back: its last job started at {year}-"},
		"the next attempt":          {`UPDATE bbm.batched_background_migration_jobs SET next_attempt_at = now() + interval '100 years' WHERE status = 'failed'`, "waiting until {year}-"},
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t, 40)
			w.exec(`ALTER TABLE public.items ADD CONSTRAINT bad CHECK (id <> 5 OR n = 0)`)
			w.enqueue("count", "public.items", 10, 10)
			config := w.daemon()
			config.RetryBase = time.Hour
			if name == "the next attempt" {
				stop := w.start(w.runner(config, parse(t, "count", increment)))
				w.eventually(`SELECT succeeded_jobs = 3 FROM bbm.batched_background_migrations`)
				require.NoError(t, stop())
			}
			w.exec(`ALTER TABLE public.items DROP CONSTRAINT bad`)
			w.exec(tc.ahead)
			stop := w.start(w.runner(config, parse(t, "count", increment)))
			w.waitsFor(strings.Replace(tc.reason, "{year}", fmt.Sprint(one[int](w, `SELECT extract(YEAR FROM now() + interval '100 years')::int`)), 1))
			require.NoError(t, w.control().Resume(w.ctx, "count", "", false))
			w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
			require.NoError(t, stop())
			w.eachOnce("count")
		})
	}
}

func TestAWorkThatChangesInMidRunWaitsUntilItIsAccepted(t *testing.T) {
	w := setup(t, 40)
	w.enqueue("count", "public.items", 10, 10)
	old, present := parse(t, "count", increment), parse(t, "count", strings.Replace(increment, "n + 1", "n + 2 - 1", 1))
	goOn, stop := w.startBetween(w.daemon(), old)
	require.NoError(t, stop())
	goOn()
	stop = w.start(w.runner(w.daemon(), present))
	w.waitsFor("waiting for a runner with this version of the work (" + old.Checksum() + ")")
	polls := w.polls()
	require.Eventually(t, func() bool { return w.polls() > polls+3 }, 30*time.Second, time.Millisecond)
	require.Equal(t, 20, one[int](w, `SELECT sum(n)::int FROM public.items`), "nothing runs in a version that nobody wanted")

	works, err := work.NewRegistry(present)
	require.NoError(t, err)
	accepting := &control.Control{Conn: dbtest.Connect(t, w.url), Works: works, ChangedBy: "test"}
	require.NoError(t, accepting.Resume(w.ctx, "count", "", true))
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	w.eachOnce("count")
	require.True(t, one[bool](w, `SELECT EXISTS (SELECT FROM bbm.batched_background_migration_transition_logs WHERE reason LIKE '%' || $1 || '%' || $2 || '%')`,
		old.Checksum(), present.Checksum()), "the history tells both versions")
}
