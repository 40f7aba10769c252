package control

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// stands is how the migration "plain" stands.
func (f *fixture) stands() Migration {
	f.t.Helper()
	migrations, err := f.Status(f.t.Context(), "plain")
	require.NoError(f.t, err)
	require.Len(f.t, migrations, 1)
	return migrations[0]
}

// waits is what the migration "plain" waits for.
func (f *fixture) waits() string {
	f.t.Helper()
	waits := f.stands().WaitingFor
	var inSQL *string
	require.NoError(f.t, f.Conn.QueryRow(f.t.Context(), `SELECT waiting_for FROM bbm.status WHERE name = 'plain'`).Scan(&inSQL))
	require.Equal(f.t, waits, inSQL, "psql shows the same")
	return value(waits)
}

func TestStatusSpeaksTheContractsNames(t *testing.T) {
	t.Parallel()
	f := setup(t, 10)
	migrations, err := f.Status(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []Migration{}, migrations)

	f.enqueue(EnqueueOptions{Work: "plain", Paused: true})
	encoded, err := json.Marshal(f.stands())
	require.NoError(t, err)
	var fields map[string]any
	require.NoError(t, json.Unmarshal(encoded, &fields))
	created, ok := fields["created_at"].(string)
	require.True(t, ok)
	_, err = time.Parse("2006-01-02T15:04:05.999999Z", created)
	require.NoError(t, err, "RFC 3339 in UTC")
	delete(fields, "created_at")
	assert.Equal(t, map[string]any{
		"name": "plain", "work": "plain", "table": "public.users", "status": "paused", "progress": 0.0, "processed_rows": 0.0, "total_rows": 10.0,
		"affected_rows": 0.0, "rows_per_second": nil, "eta_seconds": nil, "waiting_for": fields["waiting_for"], "hold": nil, "failure": nil,
		"jobs":       map[string]any{"pending": 0.0, "running": 0.0, "failed": 0.0, "succeeded": 0.0},
		"started_at": nil, "finished_at": nil, "failed_row": nil, "quarantined_rows": 0.0, "verification": nil, "proof": nil,
	}, fields)
	assert.Contains(t, fields["waiting_for"], "paused by ")
}

func TestStatusCountsWhatIsRolledUpAndWhatIsNot(t *testing.T) {
	t.Parallel()
	f := setup(t, 1000)
	f.enqueue(EnqueueOptions{Work: "plain"})
	f.force("plain", running)
	f.exec(`UPDATE bbm.batched_background_migrations SET processed_rows = 500, affected_rows = 400, succeeded_jobs = 5, started_at = now()`)
	for _, status := range []string{"succeeded", "pending", "failed", "failed", "running"} {
		id := f.job("plain", status)
		f.exec(`UPDATE bbm.batched_background_migration_jobs SET processed_rows = 30, affected_rows = 20, started_at = now() - interval '10 s' WHERE id = $1`, id)
	}
	f.exec(`SELECT pg_advisory_lock(1650617601, 1)`)
	m := f.stands()
	assert.EqualValues(t, 620, m.ProcessedRows)
	assert.EqualValues(t, 480, m.AffectedRows)
	assert.InDelta(t, 0.62, m.Progress, 1e-9)
	assert.Equal(t, JobCounts{Pending: 1, Running: 1, Failed: 2, Succeeded: 5}, m.Jobs)
	require.NotNil(t, m.RowsPerSecond)
	assert.InDelta(t, 15, *m.RowsPerSecond, 2)
	assert.InDelta(t, 26, *m.ETASeconds, 5)
	assert.Nil(t, m.WaitingFor)
	assert.Equal(t, time.UTC, m.StartedAt.Location())

	f.force("plain", failed)
	m = f.stands()
	assert.Equal(t, &Failure{"max_attempts", "job 1 failed"}, m.Failure)
	assert.Nil(t, m.RowsPerSecond)
}

// A fleet of other sessions, each reason taken away in turn.
func TestStatusFindsWhatAMigrationWaitsFor(t *testing.T) {
	t.Parallel()
	f := setup(t, 10)
	ctx := t.Context()
	runner, other := f.another().Conn, f.another().Conn
	do := func(conn *pgx.Conn, sql string) {
		t.Helper()
		_, err := conn.Exec(ctx, sql)
		require.NoError(t, err)
	}
	f.exec(`SELECT bbm.enqueue('plain', 'public.users')`)

	assert.Contains(t, f.waits(), "the fleet has never been enabled")
	require.NoError(t, f.SetEnabled(ctx, true, ""))
	f.exec(`UPDATE bbm.batched_background_migrations SET on_hold_until = now() + interval '1 hour', hold_reason = 'disk full'`)
	assert.Contains(t, f.waits(), "on hold until ")
	assert.Equal(t, "disk full", f.stands().Hold.Reason)
	require.NoError(t, f.Resume(ctx, "plain", "", false))

	assert.Equal(t, "no runner is connected", f.waits())
	require.NoError(t, queries.RunnerAnnounce(ctx, other, 0))
	assert.Equal(t, `the parameter "enabled" is off in every connected runner (1)`, f.waits())
	require.NoError(t, queries.RunnerAnnounce(ctx, runner, 1))
	assert.Equal(t, `waiting for a runner that has the work "plain"`, f.waits())
	_, err := queries.RunnerAnnounceWorks(ctx, runner, dbgen.RunnerAnnounceWorksParams{Works: []string{"plain:"}, AnnouncedWorks: []string{}})
	require.NoError(t, err)
	assert.Empty(t, f.waits(), "it is about to be prepared")

	result := f.enqueue(EnqueueOptions{Work: "plain"})
	assert.Equal(t, "waiting for a runner with this version of the work ("+result.Checksum+")", f.waits())
	works := []string{"plain:" + result.Checksum}
	announced, err := queries.RunnerAnnounceWorks(ctx, runner, dbgen.RunnerAnnounceWorksParams{Works: works, AnnouncedWorks: []string{}})
	require.NoError(t, err)
	require.Len(t, announced, 1)
	assert.Empty(t, f.waits())

	do(other, "BEGIN")
	var open []string
	err = f.Conn.QueryRow(ctx, `SELECT bbm.open_transactions()`).Scan(&open)
	require.NoError(t, err)
	f.exec(`UPDATE bbm.batched_background_migrations SET awaited_transactions = $1`, open)
	var pid int
	require.NoError(t, other.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid))
	assert.Equal(t, fmt.Sprintf("waiting for older transactions to end: process %d", pid), f.waits())
	do(other, "COMMIT")
	f.exec(`UPDATE bbm.batched_background_migrations SET max_key = '{10}'`)
	assert.Empty(t, f.waits())

	f.enqueue(EnqueueOptions{Work: "other"})
	f.force("other", running)
	assert.Equal(t, `waiting for its table, on which migration "other" runs`, f.waits())
	require.NoError(t, f.Cancel(ctx, "other", ""))
	job := f.job("other", "running")
	assert.Equal(t, `waiting for its table, on which migration "other" runs`, f.waits(), "its last sub-batch still runs")
	f.exec(`UPDATE bbm.batched_background_migration_jobs SET status = 'pending', next_attempt_at = now() WHERE id = $1`, job)

	do(other, "SELECT pg_advisory_lock(1650617601, 1)")
	assert.Empty(t, f.waits(), "the slot may be that of the runner which has just prepared it")
	f.exec(`UPDATE bbm.batched_background_migrations SET updated_at = now() - interval '2 s'`)
	assert.Equal(t, "waiting for a slot: all in use (1)", f.waits())
	require.NoError(t, f.SetSlots(ctx, 2, ""))
	assert.Empty(t, f.waits())

	job = f.job("plain", "running")
	assert.Empty(t, f.waits(), "it executes: the lock of its slot is held")
	do(other, "SELECT pg_advisory_unlock(1650617601, 1)")
	assert.Contains(t, f.waits(), "its runner is lost")

	f.exec(`UPDATE bbm.batched_background_migrations SET frontier_key = max_key WHERE name = 'plain'`)
	f.exec(`UPDATE bbm.batched_background_migration_jobs SET status = 'failed', next_attempt_at = now() + interval '1 hour' WHERE id = $1`, job)
	assert.Regexp(t, `^waiting until .* for the next attempt of a job$`, f.waits())
	f.exec(`UPDATE bbm.batched_background_migration_jobs SET next_attempt_at = now() WHERE id = $1`, job)
	f.exec(`UPDATE bbm.batched_background_migrations SET job_interval = '2 h', last_claimed_at = now() WHERE name = 'plain'`)
	assert.Regexp(t, `^waiting until .* for its interval of 2h0m0s$`, f.waits())

	require.NoError(t, f.Pause(ctx, "plain", "deploy"))
	assert.Equal(t, "paused by alice@host: deploy", f.waits())
	require.NoError(t, f.Cancel(ctx, "plain", ""))
	assert.Empty(t, f.waits())
}

func TestWaitEndsWhenAllAreFinishedOrOneHasFailed(t *testing.T) {
	t.Parallel()
	f := setup(t, 10)
	f.enqueue(EnqueueOptions{Work: "plain"})
	f.enqueue(EnqueueOptions{Work: "other"})
	both := []string{"plain", "other"}
	looks := 0
	// The table is one: each finishes after a look.
	last, err := f.Wait(t.Context(), both, time.Millisecond, func(migrations []Migration) {
		if looks < len(both) {
			f.force(both[looks], finished)
		}
		looks++
	})
	require.NoError(t, err)
	assert.Equal(t, 3, looks)
	assert.Equal(t, "finished", last[0].Status)
	assert.Equal(t, "finished", last[1].Status)

	for _, status := range []dbgen.MigrationStatus{failed, cancelled} {
		f.force("other", status)
		f.force("plain", active)
		last, err = f.Wait(t.Context(), both, time.Hour, nil)
		require.NoError(t, err)
		assert.Equal(t, string(status), last[1].Status)
	}
	requireInput(t, errOf(f.Wait(t.Context(), nil, 0, nil)), "no migration to wait for")
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	f := setup(t, 10)
	f.enqueue(EnqueueOptions{Work: "plain"})
	ctx, cancel := context.WithCancel(t.Context())
	last, err := f.Wait(ctx, []string{"plain"}, time.Hour, func([]Migration) { cancel() })
	require.ErrorIs(t, err, context.Canceled)
	assert.Len(t, last, 1)

	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = f.Wait(ctx, []string{"plain"}, time.Microsecond, nil)
	assert.Equal(t, context.DeadlineExceeded, err)
	_, err = f.Status(t.Context())
	require.NoError(t, err, "the connection can be used again")
}
