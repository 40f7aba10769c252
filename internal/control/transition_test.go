package control

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// Every command from every status: the status that it leads to, or what it says instead. The history must have exactly the new row.
func TestEveryCommandFromEveryStatus(t *testing.T) {
	t.Parallel()
	type outcome struct {
		to      dbgen.MigrationStatus // "" for an error
		refusal string
	}
	to := func(status dbgen.MigrationStatus) outcome { return outcome{to: status} }
	refused := func(text string) outcome { return outcome{refusal: text} }
	f := setup(t, 10)
	ctx := t.Context()
	commands := map[string]func(name string) error{
		"pause":  func(name string) error { return f.Pause(ctx, name, "a reason") },
		"resume": func(name string) error { return f.Resume(ctx, name, "a reason", false) },
		"cancel": func(name string) error { return f.Cancel(ctx, name, "a reason") },
		"retry":  func(name string) error { return f.Retry(ctx, name, "a reason", false) },
	}
	for command, outcomes := range map[string]map[dbgen.MigrationStatus]outcome{
		"pause": {
			paused: to(paused), active: to(paused), running: to(paused),
			finished: refused("is finished; nothing to pause"), cancelled: refused("is cancelled; nothing to pause"),
			failed: refused("bbm-runner retry"),
		},
		"resume": {
			paused: to(active), active: to(active), running: to(running),
			finished: refused("is finished; enqueue it under another name"), cancelled: refused("is cancelled; enqueue it under another name"),
			failed: refused("bbm-runner retry"),
		},
		"cancel": {
			paused: to(cancelled), active: to(cancelled), running: to(cancelled), failed: to(cancelled), cancelled: to(cancelled),
			finished: refused("is finished; nothing to cancel"),
		},
		"retry": {
			failed: to(active), paused: refused("bbm-runner resume"),
			active: refused("is active and has not failed"), running: refused("is running and has not failed"),
			finished: refused("is finished; enqueue it under another name"), cancelled: refused("is cancelled; enqueue it under another name"),
		},
	} {
		for from, want := range outcomes {
			name := command + " " + string(from)
			f.enqueue(EnqueueOptions{Work: "plain", Name: name})
			f.force(name, from)
			before, logs := f.dump(), f.history(name)

			err := commands[command](name)
			if want.refusal != "" {
				requireInput(t, err, want.refusal)
				assert.Equal(t, before, f.dump(), "%s: nothing has changed", name)
			} else {
				require.NoError(t, err, name)
				m := f.migration(name)
				assert.Equal(t, want.to, m.Status, name)
				added := f.history(name)[len(logs):]
				if want.to == from {
					assert.Equal(t, before, f.dump(), "%s: it was so already", name)
				} else if assert.Len(t, added, 1, name) {
					reason := "a reason"
					previous, next := string(from), string(want.to)
					assert.Equal(t, MigrationLogRow{
						added[0].ID, m.ID, m.UpdatedAt.UTC(), &previous, next, "alice@host", &reason, ptr(f.role()),
					}, added[0], name)
				}
			}
			// The table is one: make room for the next that runs.
			f.force(name, cancelled)
		}
	}
}

// role is the role of the fixture's own session.
func (f *fixture) role() (name string) {
	f.t.Helper()
	require.NoError(f.t, f.Conn.QueryRow(f.t.Context(), `SELECT session_user`).Scan(&name))
	return name
}

// history is a migration's own history, oldest first.
func (f *fixture) history(name string) []MigrationLogRow {
	f.t.Helper()
	logs, err := f.MigrationLogs(f.t.Context(), name)
	require.NoError(f.t, err)
	return logs
}

func TestResumeLiftsAHold(t *testing.T) {
	t.Parallel()
	for _, status := range []dbgen.MigrationStatus{paused, active, running} {
		t.Run(string(status), func(t *testing.T) {
			t.Parallel()
			f := setup(t, 1)
			f.enqueue(EnqueueOptions{Work: "plain"})
			f.force("plain", status)
			f.exec(`UPDATE bbm.batched_background_migrations SET on_hold_until = now() + interval '1 hour', hold_reason = 'disk full'`)
			require.NoError(t, f.Resume(t.Context(), "plain", "", false))
			m := f.migration("plain")
			assert.Nil(t, m.OnHoldUntil)
			assert.Nil(t, m.HoldReason)
		})
	}
}

func TestRetryCountsTheAttemptsOfWaitingJobsAnew(t *testing.T) {
	t.Parallel()
	f := setup(t, 1)
	f.enqueue(EnqueueOptions{Work: "plain"})
	ids := map[string]int64{}
	for _, status := range []string{"pending", "running", "failed", "succeeded"} {
		ids[status] = f.job("plain", status)
	}
	f.force("plain", failed)
	require.NoError(t, f.Retry(t.Context(), "plain", "", false))
	m := f.migration("plain")
	assert.Nil(t, m.FailureErrorCode)
	assert.Nil(t, m.FailureMessage)

	jobs := map[int64]Job{}
	require.NoError(t, f.Jobs(t.Context(), "plain", "", func(page []Job) error {
		for _, j := range page {
			jobs[j.ID] = j
		}
		return nil
	}))
	for _, was := range []string{"pending", "failed"} {
		j := jobs[ids[was]]
		assert.Equal(t, "pending", j.Status, was)
		assert.Zero(t, j.Attempts, was)
		assert.Zero(t, j.Stalls, was)
		assert.Equal(t, m.UpdatedAt.UTC(), *j.NextAttemptAt, was)
	}
	for _, was := range []string{"running", "succeeded"} {
		assert.Equal(t, was, jobs[ids[was]].Status)
		assert.EqualValues(t, 3, jobs[ids[was]].Attempts)
	}
	var logs []LogRow
	require.NoError(t, f.Logs(t.Context(), "plain", func(page []LogRow) error {
		logs = append(logs, page...)
		return nil
	}))
	require.Len(t, logs, 1, "the one job whose status has changed")
	previous := "failed"
	assert.Equal(t, LogRow{
		ID: logs[0].ID, JobID: ids["failed"], CreatedAt: m.UpdatedAt.UTC(), PreviousStatus: &previous, NextStatus: "pending", Attempt: 1,
	}, logs[0])
}

func TestTheLogOfAJobKeepsItsOrderAcrossPages(t *testing.T) {
	t.Parallel()
	f := setup(t, 1)
	f.enqueue(EnqueueOptions{Work: "plain"})
	f.enqueue(EnqueueOptions{Work: "other"})
	f.exec(`
		WITH new_job AS (
			INSERT INTO bbm.batched_background_migration_jobs
				(batched_background_migration_id, until_key, status, finished_at, next_attempt_at)
			SELECT m.id, '{1}', CASE WHEN i % 500 = 0 THEN 'failed' ELSE 'succeeded' END::bbm.job_status,
				CASE WHEN i % 500 <> 0 THEN now() END, CASE WHEN i % 500 = 0 THEN now() END
			FROM generate_series(1, 2500) i, bbm.batched_background_migrations m
			ORDER BY i
			RETURNING id
		)
		INSERT INTO bbm.batched_background_migration_job_transition_logs (batched_background_migration_job_id, next_status, attempt)
		SELECT id, 'pending', 1 FROM new_job`)
	count := func(status string) (jobs, pages int) {
		last := int64(0)
		require.NoError(t, f.Jobs(t.Context(), "plain", status, func(page []Job) error {
			pages++
			for _, j := range page {
				jobs++
				require.Greater(t, j.ID, last)
				require.Equal(t, f.migration("plain").ID, j.MigrationID)
				last = j.ID
			}
			return nil
		}))
		return jobs, pages
	}
	for status, want := range map[string][2]int{"": {2500, 3}, "succeeded": {2495, 3}, "failed": {5, 1}, "running": {0, 0}} {
		jobs, pages := count(status)
		assert.Equal(t, want, [2]int{jobs, pages}, status)
	}
	requireInput(t, f.Jobs(t.Context(), "plain", "done", nil), `unknown status "done"`)

	logs, last := 0, int64(0)
	require.NoError(t, f.Logs(t.Context(), "other", func(page []LogRow) error {
		for _, l := range page {
			logs++
			require.Greater(t, l.ID, last)
			last = l.ID
		}
		return nil
	}))
	assert.Equal(t, 2500, logs)
}

func TestAcceptWorkAdoptsThePresentVersion(t *testing.T) {
	t.Parallel()
	pinOld := func(f *fixture) {
		f.exec(`UPDATE bbm.batched_background_migrations SET work_checksum = '00000000deadbeef'`)
	}
	for command, c := range map[string]struct {
		from, to dbgen.MigrationStatus
		run      func(f *fixture) error
	}{
		"retry a failed one":   {failed, active, func(f *fixture) error { return f.Retry(f.t.Context(), "plain", "mended", true) }},
		"resume a paused one":  {paused, active, func(f *fixture) error { return f.Resume(f.t.Context(), "plain", "mended", true) }},
		"resume an active one": {active, active, func(f *fixture) error { return f.Resume(f.t.Context(), "plain", "mended", true) }},
		"resume a running one": {running, running, func(f *fixture) error { return f.Resume(f.t.Context(), "plain", "mended", true) }},
	} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			f := setup(t, 10)
			present := f.enqueue(EnqueueOptions{Work: "plain"}).Checksum
			pinOld(f)
			f.force("plain", c.from)
			require.NoError(t, c.run(f))
			m := f.migration("plain")
			assert.Equal(t, present, *m.WorkChecksum)
			assert.Equal(t, c.to, m.Status)
			logs := f.history("plain")
			require.Len(t, logs, 2)
			assert.Equal(t, "adopted the present version of the work (00000000deadbeef → "+present+"): mended", *logs[1].Reason)
			assert.Equal(t, string(c.from), *logs[1].PreviousStatus)
			assert.Equal(t, string(c.to), logs[1].NextStatus)

			require.NoError(t, f.Pause(t.Context(), "plain", ""))
			require.NoError(t, f.Resume(t.Context(), "plain", "", true))
			logs = f.history("plain")
			assert.Nil(t, logs[len(logs)-1].Reason, "the present version is pinned already")
		})
	}

	t.Run("what is not asked for is not adopted", func(t *testing.T) {
		t.Parallel()
		f := setup(t, 10)
		f.enqueue(EnqueueOptions{Work: "plain", Paused: true})
		pinOld(f)
		require.NoError(t, f.Resume(t.Context(), "plain", "", false))
		assert.Equal(t, "00000000deadbeef", *f.migration("plain").WorkChecksum)
	})
	t.Run("refused, with nothing changed", func(t *testing.T) {
		t.Parallel()
		f := setup(t, 10)
		f.enqueue(EnqueueOptions{Work: "plain"})
		pinOld(f)
		adopt := func() error { return f.Resume(t.Context(), "plain", "", true) }
		with := func(file string) { f.Works = registry(t, map[string]string{"plain": file}) }
		before := f.dump()

		f.Works = nil
		requireInput(t, adopt(), `there is no work "plain"`)
		f.exec(`CREATE TABLE public.accounts (id bigint PRIMARY KEY)`)
		f.exec(`ALTER TABLE public.users ADD CONSTRAINT k UNIQUE (n, id)`)
		with(`-- description: d
-- table: public.users
-- cursor: n, id

-- +bbm Work
DELETE FROM public.users AS u WHERE @batch(u)`)
		requireInput(t, adopt(), "has the cursor n, id, but migration \"plain\" is cut by id")
		with(`-- description: d
-- table: public.accounts
-- cursor: id

-- +bbm Work
DELETE FROM public.accounts AS u WHERE @batch(u)`)
		requireInput(t, adopt(), "is for public.accounts, but migration \"plain\" runs on public.users")
		with(usersFile + " AND u.missing")
		var definition *work.DefinitionError
		require.ErrorAs(t, adopt(), &definition)
		assert.Equal(t, before, f.dump())

		with(usersFile)
		f.job("plain", "running")
		before = f.dump()
		requireInput(t, adopt(), "1 jobs of migration \"plain\" still run in the old version")
		assert.Equal(t, before, f.dump())
	})
}

func TestSetTunesWhatIsGiven(t *testing.T) {
	t.Parallel()
	f := setup(t, 10)
	f.enqueue(EnqueueOptions{Work: "tuned"})
	number, length := func(n int) *int { return &n }, func(d time.Duration) *time.Duration { return &d }
	set := func(o SetOptions) error { return f.Set(t.Context(), "tuned", "", o) }

	require.NoError(t, set(SetOptions{SubBatchSize: number(50), Pause: length(250 * time.Millisecond)}))
	require.NoError(t, set(SetOptions{Interval: length(2 * time.Hour), Parallelism: number(4), MaxAttempts: number(9)}))
	m := f.migration("tuned")
	assert.EqualValues(t, 50, *m.SubBatchSize)
	assert.Equal(t, 250*time.Millisecond, m.Pause)
	assert.Equal(t, 2*time.Hour, m.JobInterval)
	assert.EqualValues(t, 4, m.Parallelism)
	assert.EqualValues(t, 9, m.MaxAttempts)
	require.NoError(t, set(SetOptions{SubBatchAuto: true, Pause: length(0)}))
	m = f.migration("tuned")
	assert.Nil(t, m.SubBatchSize)
	assert.Zero(t, m.Pause)

	before := f.dump()
	for want, o := range map[string]SetOptions{
		"nothing to set": {},
		"sub-batch size 101 is above the batch size of 100": {SubBatchSize: number(101)},
		"a sub-batch size of 0 is not possible":             {SubBatchSize: number(0)},
		"either a number or auto":                           {SubBatchSize: number(1), SubBatchAuto: true},
		"a parallelism of -1 is not possible":               {Parallelism: number(-1)},
		"a number of attempts of 2147483648":                {MaxAttempts: number(1 << 31)},
		"the pause of -1s is negative":                      {Pause: length(-time.Second)},
		"the interval of -1ns is negative":                  {Interval: length(-1)},
	} {
		requireInput(t, set(o), want)
	}
	assert.Equal(t, before, f.dump())
	f.force("tuned", cancelled)
	requireInput(t, set(SetOptions{SubBatchAuto: true}), "is cancelled; nothing to tune")
}
