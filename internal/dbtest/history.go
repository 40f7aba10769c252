package dbtest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type historyJob struct {
	ID                                  int64
	AfterKey, UntilKey, ProgressKey     []string
	Status                              string
	Attempts                            int32
	Claims, ProcessedRows, AffectedRows int64
}

type historyLog struct {
	JobID     int64
	CreatedAt time.Time
	Previous  *string
	Next      string
	Attempt   int32
	Class     *string
}

// CheckHistory proves what must hold of a migration at any time when no runner works on it, and of a finished one beside: jobs tile the range; each
// status change has its log row, in order, each previous_status the one before's next_status; the last is the job's status; counts equal the truth;
// never more jobs were running at one instant than the fleet has slots.
func CheckHistory(t testing.TB, conn *pgx.Conn, name string) {
	t.Helper()
	ctx := context.Background()
	var migration struct {
		ID                                        int64
		Status                                    string
		MaxKey, FrontierKey                       []string
		SucceededJobs, ProcessedRows, AffectedRow int64
	}
	err := conn.QueryRow(ctx, `
		SELECT id, status::text, max_key, frontier_key, succeeded_jobs, processed_rows, affected_rows
		FROM bbm.batched_background_migrations WHERE name = $1`, name).Scan(
		&migration.ID, &migration.Status, &migration.MaxKey, &migration.FrontierKey,
		&migration.SucceededJobs, &migration.ProcessedRows, &migration.AffectedRow)
	require.NoError(t, err, "migration %q", name)

	rows, err := conn.Query(ctx, `
		SELECT id, after_key, until_key, progress_key, status::text AS status, attempts, claims, processed_rows, affected_rows
		FROM bbm.batched_background_migration_jobs WHERE batched_background_migration_id = $1 ORDER BY id`, migration.ID)
	require.NoError(t, err)
	jobs, err := pgx.CollectRows(rows, pgx.RowToStructByPos[historyJob])
	require.NoError(t, err)
	rows, err = conn.Query(ctx, `
		SELECT l.batched_background_migration_job_id, l.created_at, l.previous_status::text, l.next_status::text, l.attempt, l.exception_class
		FROM bbm.batched_background_migration_job_transition_logs AS l
		JOIN bbm.batched_background_migration_jobs AS j ON j.id = l.batched_background_migration_job_id
		WHERE j.batched_background_migration_id = $1 ORDER BY l.id`, migration.ID)
	require.NoError(t, err)
	logs, err := pgx.CollectRows(rows, pgx.RowToStructByPos[historyLog])
	require.NoError(t, err)

	checkTiling(t, jobs, migration.FrontierKey)
	checkLogs(t, jobs, logs)
	checkConcurrency(t, conn, logs)

	var succeeded, processed, affected int64
	for _, job := range jobs {
		if job.Status == "succeeded" {
			succeeded++
			processed += job.ProcessedRows
			affected += job.AffectedRows
			assert.Equal(t, job.UntilKey, job.ProgressKey, "job %d succeeded before its end", job.ID)
		}
		assert.NotEqual(t, "running", job.Status, "job %d still runs", job.ID)
	}
	assert.Equal(t, succeeded, migration.SucceededJobs, "succeeded_jobs")
	assert.Equal(t, processed, migration.ProcessedRows, "processed_rows")
	assert.Equal(t, affected, migration.AffectedRow, "affected_rows")
	if migration.Status == "finished" {
		assert.Equal(t, migration.MaxKey, migration.FrontierKey, "a finished migration has been cut to its end")
		assert.Equal(t, int64(len(jobs)), succeeded, "every job of a finished migration has succeeded")
	}
	checkMigrationLogs(t, conn, migration.ID, migration.Status)
}

func checkTiling(t testing.TB, jobs []historyJob, frontier []string) {
	t.Helper()
	var end []string
	for _, job := range jobs {
		assert.Equal(t, end, job.AfterKey, "job %d begins where the one before ends", job.ID)
		end = job.UntilKey
	}
	assert.Equal(t, frontier, end, "the last job ends at the frontier")
}

func checkLogs(t testing.TB, jobs []historyJob, logs []historyLog) {
	t.Helper()
	byJob := make(map[int64][]historyLog)
	for _, log := range logs {
		byJob[log.JobID] = append(byJob[log.JobID], log)
	}
	for _, job := range jobs {
		history := byJob[job.ID]
		if !assert.NotEmpty(t, history, "job %d has a history", job.ID) {
			continue
		}
		var previous *string
		var starts int64
		for i, log := range history {
			assert.Equal(t, previous, log.Previous, "job %d, transition %d", job.ID, i)
			if i > 0 {
				assert.False(t, log.CreatedAt.Before(history[i-1].CreatedAt), "job %d, transition %d goes back in time", job.ID, i)
			}
			if log.Next == "running" {
				starts++
			}
			if log.Next == "failed" || previous != nil && *previous == "running" && log.Next == "pending" {
				assert.NotNil(t, log.Class, "job %d, transition %d tells why", job.ID, i)
			}
			previous = &log.Next
		}
		assert.Equal(t, job.Status, *previous, "the last transition of job %d is its status", job.ID)
		assert.Equal(t, job.Claims, starts, "claims of job %d", job.ID)
	}
}

// checkConcurrency counts how many jobs of this migration ran at once, by the history's timestamps.
func checkConcurrency(t testing.TB, conn *pgx.Conn, logs []historyLog) {
	t.Helper()
	var slots int
	require.NoError(t, conn.QueryRow(context.Background(), `SELECT greatest(f.slots, (SELECT max(j.slot) FROM bbm.batched_background_migration_jobs AS j)) FROM bbm.fleet_settings AS f`).Scan(&slots))
	type event struct {
		at    time.Time
		delta int
	}
	var events []event
	running := make(map[int64]bool)
	for _, log := range logs {
		switch {
		case log.Next == "running":
			running[log.JobID] = true
			events = append(events, event{log.CreatedAt, 1})
		case running[log.JobID]:
			running[log.JobID] = false
			events = append(events, event{log.CreatedAt, -1})
		}
	}
	slices.SortStableFunc(events, func(a, b event) int {
		if c := a.at.Compare(b.at); c != 0 {
			return c
		}
		return a.delta - b.delta // an end and a start at the same instant do not overlap
	})
	now := 0
	for _, e := range events {
		now += e.delta
		if now > slots {
			assert.LessOrEqual(t, now, slots, "more jobs at once than slots, at %s", e.at)
			return
		}
	}
}

func checkMigrationLogs(t testing.TB, conn *pgx.Conn, id int64, status string) {
	t.Helper()
	rows, err := conn.Query(context.Background(), `
		SELECT 0::bigint, created_at, previous_status::text, next_status::text, 0, NULL::text
		FROM bbm.batched_background_migration_transition_logs WHERE batched_background_migration_id = $1 ORDER BY id`, id)
	require.NoError(t, err)
	logs, err := pgx.CollectRows(rows, pgx.RowToStructByPos[historyLog])
	require.NoError(t, err)
	require.NotEmpty(t, logs, "the migration has a history")
	var previous *string
	for i, log := range logs {
		// Adopting another version of the work is logged without a change of status.
		assert.Equal(t, previous, log.Previous, "transition %d of the migration", i)
		previous = &log.Next
	}
	assert.Equal(t, status, *previous, "the migration's last transition is its status")
}
