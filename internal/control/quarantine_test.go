package control

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// leaveOut puts rows of a migration into quarantine. Only tests may: no job has met them.
func (f *fixture) leaveOut(name string, keys ...string) {
	f.t.Helper()
	f.exec(`INSERT INTO bbm.batched_background_migration_quarantined_rows
			(batched_background_migration_id, batched_background_migration_job_id, row_key, exception_class, exception_message)
		SELECT m.id, 1, ARRAY[k], 'check_violation', 'm' FROM bbm.batched_background_migrations AS m, unnest($2::text[]) AS k WHERE m.name = $1`, name, keys)
	f.exec(`UPDATE bbm.batched_background_migrations SET quarantined_rows = $2 WHERE name = $1`, name, len(keys))
}

func TestRowsAreTriedAgainFromEveryStatusButCancelled(t *testing.T) {
	t.Parallel()
	f := setup(t, 10)
	for from, to := range map[dbgen.MigrationStatus]dbgen.MigrationStatus{
		paused: paused, active: active, running: running, finished: active, failed: failed,
	} {
		name := string(from)
		f.enqueue(EnqueueOptions{Work: "plain", Name: name})
		f.force(name, from)
		f.leaveOut(name, "3", "7")
		logs := f.history(name)
		rows, err := f.RetryQuarantined(t.Context(), name, "a reason", false)
		require.NoError(t, err, name)
		assert.EqualValues(t, 2, rows, name)
		m := f.migration(name)
		assert.Equal(t, to, m.Status, name)
		assert.Nil(t, m.FinishedAt, name)
		added := f.history(name)[len(logs):]
		if from == finished {
			require.Len(t, added, 1)
			assert.Equal(t, "finished", *added[0].PreviousStatus)
			assert.Equal(t, "a reason", *added[0].Reason)
			assert.Equal(t, "alice@host", added[0].ChangedBy)
		} else {
			assert.Empty(t, added, "%s: its status is what it was", name)
		}
		var jobs []Job
		require.NoError(t, f.Jobs(t.Context(), name, "pending", func(page []Job) error { jobs = append(jobs, page...); return nil }))
		require.Len(t, jobs, 2, name)
		for i, key := range []string{"3", "7"} {
			assert.True(t, jobs[i].IsSingleRow)
			assert.EqualValues(t, 1, jobs[i].Pass)
			assert.Equal(t, []string{key}, jobs[i].UntilKey)
		}
		before := f.dump()
		rows, err = f.RetryQuarantined(t.Context(), name, "", false)
		require.NoError(t, err, name)
		assert.Zero(t, rows, "%s: they are to be tried already", name)
		assert.Equal(t, before, f.dump(), name)
		f.force(name, cancelled)
		_, err = f.RetryQuarantined(t.Context(), name, "", false)
		requireInput(t, err, "is cancelled")
	}
}

func TestRetryingAnEmptyQuarantineChangesNothing(t *testing.T) {
	t.Parallel()
	f := setup(t, 10)
	f.enqueue(EnqueueOptions{Work: "plain"})
	f.force("plain", finished)
	before := f.dump()
	rows, err := f.RetryQuarantined(t.Context(), "plain", "", false)
	require.NoError(t, err)
	assert.Zero(t, rows)
	assert.Equal(t, before, f.dump())
	_, err = f.RetryQuarantined(t.Context(), "missing", "", false)
	require.ErrorIs(t, err, ErrNotFound)
}

func TestTheQuarantineIsListedPageByPageAndGoesWithItsMigration(t *testing.T) {
	t.Parallel()
	f := setup(t, 10)
	f.enqueue(EnqueueOptions{Work: "plain"})
	f.enqueue(EnqueueOptions{Work: "other"})
	f.exec(`INSERT INTO bbm.batched_background_migration_quarantined_rows
			(batched_background_migration_id, batched_background_migration_job_id, row_key, exception_class, exception_message, mended_at)
		SELECT m.id, 1, ARRAY[g::text], 'check_violation', 'm', CASE WHEN g = 2 THEN now() END
		FROM bbm.batched_background_migrations AS m, generate_series(1, 2100) AS g`)
	var pages []int
	var keys []string
	require.NoError(t, f.Quarantined(t.Context(), "plain", func(page []QuarantinedRow) error {
		pages = append(pages, len(page))
		for _, row := range page {
			keys = append(keys, row.RowKey[0])
		}
		return nil
	}))
	assert.Equal(t, []int{1000, 1000, 99}, pages)
	assert.Equal(t, []string{"1", "3", "4"}, keys[:3], "the second was mended")
	require.NoError(t, f.Cancel(t.Context(), "plain", ""))
	require.NoError(t, f.Delete(t.Context(), "plain"))
	var left int
	require.NoError(t, f.Conn.QueryRow(t.Context(), `SELECT count(*) FROM bbm.batched_background_migration_quarantined_rows`).Scan(&left))
	assert.Equal(t, 2100, left, "those of the other")
}
