package control

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWhatHappenedLaterToAnEarlierJobStandsWhereItHappened(t *testing.T) {
	t.Parallel()
	f := setup(t, 1)
	f.enqueue(EnqueueOptions{Work: "plain"})
	// 1,500 jobs are made and start, each in turn; every 400th fails, and is started again 300 jobs later. Pages end in between.
	f.exec(`
		WITH new_job AS (
			INSERT INTO bbm.batched_background_migration_jobs (batched_background_migration_id, until_key, status, finished_at)
			SELECT m.id, '{1}', 'succeeded', now() FROM generate_series(1, 1500) i, bbm.batched_background_migrations m ORDER BY i
			RETURNING id
		), numbered AS (
			SELECT id, row_number() OVER (ORDER BY id) AS n FROM new_job
		)
		INSERT INTO bbm.batched_background_migration_job_transition_logs
			(batched_background_migration_job_id, previous_status, next_status, attempt)
		SELECT e.id, e.previous::bbm.job_status, e.next::bbm.job_status, 1
		FROM (
			SELECT id, n AS at, 1 AS step, NULL AS previous, 'pending' AS next FROM numbered
			UNION ALL SELECT id, n, 2, 'pending', 'running' FROM numbered
			UNION ALL SELECT id, n, 3, 'running', 'failed' FROM numbered WHERE n % 400 = 0
			UNION ALL SELECT id, n + 300, 4, 'failed', 'running' FROM numbered WHERE n % 400 = 0
		) AS e
		ORDER BY e.at, e.step`)

	var last int64
	rows, late := 0, 0
	newest := int64(0)
	require.NoError(t, f.Logs(t.Context(), "plain", func(page []LogRow) error {
		require.LessOrEqual(t, len(page), pageSize)
		for _, l := range page {
			rows++
			require.Greater(t, l.ID, last)
			last = l.ID
			newest = max(newest, l.JobID)
			if l.PreviousStatus != nil && *l.PreviousStatus == "failed" {
				late++
				assert.Greater(t, newest, l.JobID, "between the rows of newer jobs")
			}
		}
		return nil
	}))
	assert.Equal(t, 3006, rows)
	assert.Equal(t, 3, late)
}
