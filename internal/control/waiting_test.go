package control

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestProgressIsOneOnlyWhenFinished(t *testing.T) {
	t.Parallel()
	f := setup(t, 10)
	f.enqueue(EnqueueOptions{Work: "plain"})
	for _, c := range []struct {
		status      string
		done, total int64
		want        float64
	}{
		{"running", 0, 100, 0}, {"running", 25, 100, 0.25}, {"running", 100, 100, 0.999}, {"running", 300, 100, 0.999}, {"running", 5, 0, 0.999},
		{"active", 0, 0, 0}, {"failed", 50, 100, 0.5}, {"finished", 0, 0, 1}, {"finished", 90, 100, 1}, {"cancelled", 100, 100, 0.999},
	} {
		f.exec(`UPDATE bbm.batched_background_migrations SET status = $1::text::bbm.migration_status, processed_rows = $2, total_tuple_count = $3,
			failure_error_code = 'max_attempts', finished_at = CASE WHEN $1 = 'finished' THEN now() END`, c.status, c.done, c.total)
		assert.InDelta(t, c.want, f.stands().Progress, 1e-9, c)
	}
}

func TestPaceIsKnownOnlyOfWhatGoes(t *testing.T) {
	t.Parallel()
	f := setup(t, 10)
	f.enqueue(EnqueueOptions{Work: "plain"})
	require.NoError(t, f.SetEnabled(t.Context(), true, ""))
	id := f.job("plain", "running")
	going := func() {
		f.exec(`UPDATE bbm.fleet_settings SET execution_enabled = true`)
		f.exec(`UPDATE bbm.batched_background_migrations SET status = 'running', total_tuple_count = 1501, job_interval = '0'`)
		f.exec(`UPDATE bbm.batched_background_migration_jobs SET processed_rows = 1000, started_at = now() - interval '4 s', updated_at = now() WHERE id = $1`, id)
	}
	f.exec(`SELECT pg_advisory_lock(1650617601, 1)`) // as whoever executes the job
	going()
	assert.InDelta(t, 250, *f.stands().RowsPerSecond, 1e-9)
	assert.EqualValues(t, 3, *f.stands().ETASeconds)
	f.exec(`UPDATE bbm.batched_background_migrations SET total_tuple_count = 993`)
	assert.NotNil(t, f.stands().RowsPerSecond)
	assert.Nil(t, f.stands().ETASeconds, "more rows than estimated")
	for name, change := range map[string]string{
		"not running":     `UPDATE bbm.batched_background_migrations SET status = 'active'`,
		"nothing done":    `UPDATE bbm.batched_background_migration_jobs SET processed_rows = 0`,
		"no time elapsed": `UPDATE bbm.batched_background_migration_jobs SET updated_at = started_at`,
	} {
		going()
		f.exec(change)
		assert.Nil(t, f.stands().RowsPerSecond, name)
		assert.Nil(t, f.stands().ETASeconds, name)
	}
	going()
	f.exec(`SELECT pg_advisory_unlock(1650617601, 1)`)
	assert.Nil(t, f.stands().RowsPerSecond, "its runner is lost")
	f.exec(`UPDATE bbm.batched_background_migrations SET job_interval = '1 h', last_claimed_at = now()`)
	assert.NotNil(t, f.stands().RowsPerSecond, "an interval is part of the pace")
}

func TestAHoldThatHasPassedIsNoReason(t *testing.T) {
	t.Parallel()
	f := setup(t, 10)
	f.enqueue(EnqueueOptions{Work: "plain"})
	require.NoError(t, f.SetEnabled(t.Context(), true, ""))
	f.exec(`UPDATE bbm.batched_background_migrations SET on_hold_until = now() - interval '1 s', hold_reason = 'disk full'`)
	assert.Nil(t, f.stands().Hold)
	assert.Equal(t, "no runner is connected", f.waits())
}

func TestNobodyIsNamedForWhatTheHistoryDoesNotTell(t *testing.T) {
	t.Parallel()
	f := setup(t, 10)
	f.enqueue(EnqueueOptions{Work: "plain"})
	assert.Equal(t, "the fleet has never been enabled; to enable it: bbm-runner enable, or in SQL: SELECT bbm.enable()", f.waits())
	require.NoError(t, f.SetEnabled(t.Context(), true, ""))
	require.NoError(t, f.SetEnabled(t.Context(), false, "maintenance"))
	assert.Equal(t, "the fleet is disabled by alice@host: maintenance", f.waits())
	require.NoError(t, f.SetEnabled(t.Context(), true, ""))
	f.exec(`UPDATE bbm.fleet_settings SET execution_enabled = false`)
	assert.Equal(t, "the fleet is disabled; the history does not tell by whom", f.waits())

	require.NoError(t, f.Pause(t.Context(), "plain", "deploy"))
	assert.Equal(t, "paused by alice@host: deploy", f.waits())
	require.NoError(t, f.Resume(t.Context(), "plain", "", false))
	f.exec(`UPDATE bbm.batched_background_migrations SET status = 'paused'`)
	assert.Equal(t, "paused; the history does not tell by whom", f.waits())
}

func TestOneMigrationOfAThousandIsLookedUpByItself(t *testing.T) {
	t.Parallel()
	f := setup(t, 10)
	f.exec(`SELECT bbm.enqueue('plain', 'public.users', 'm' || i) FROM generate_series(1, 1000) AS i`)
	f.enqueue(EnqueueOptions{Work: "plain"})
	all, err := f.Status(t.Context())
	require.NoError(t, err)
	assert.Len(t, all, 1001)
	assert.Equal(t, "plain", f.stands().Name)
}
