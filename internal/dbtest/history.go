package dbtest

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TB is what a checker needs of a [testing.TB], for callers that are no test. FailNow ends the goroutine, or does not return otherwise.
type TB interface {
	Helper()
	Errorf(format string, args ...any)
	FailNow()
}

type historyJob struct {
	ID                                  int64
	Pass                                int32
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

// jobTransitions and migrationTransitions are the changes of a status that there may be, "" being none before the creation. A migration that stays in
// its status has adopted another version of its work.
var (
	jobTransitions = map[string][]string{
		"": {"pending"}, "pending": {"running"}, "running": {"pending", "failed", "succeeded"}, "failed": {"running", "pending"},
	}
	migrationTransitions = map[string][]string{
		"":        {"paused", "active", "finished"},
		"paused":  {"active", "failed", "cancelled"},
		"active":  {"active", "running", "paused", "finished", "failed", "cancelled"},
		"running": {"running", "paused", "finished", "failed", "cancelled"},
		"failed":  {"active", "cancelled"},
		// A row that was left out is tried again.
		"finished": {"active"},
	}
)

// CheckHistory proves what must hold of a migration at any time when no runner works on it, and of a finished one beside: jobs tile the range; each
// status change is one that there may be and has its log row, in order, each previous_status the one before's next_status; the last is the job's
// status; claims, attempts and rows equal the truth, those left out included; what finished by a proof has it; never more jobs of the whole database were
// running at one instant than the fleet has slots.
func CheckHistory(t TB, conn *pgx.Conn, name string) {
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
		SELECT id, pass, after_key, until_key, progress_key, status::text AS status, attempts, claims, processed_rows, affected_rows
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
	checkLogs(t, jobs, logs, checkMigrationLogs(t, conn, migration.ID, migration.Status))
	checkConcurrency(t, conn)
	checkQuarantine(t, conn, migration.ID, migration.Status)
	checkProof(t, conn, migration.ID, migration.Status)

	var succeeded, processed, affected int64
	for _, job := range jobs {
		if job.Status == "succeeded" {
			succeeded++
			if job.Pass == 0 {
				processed += job.ProcessedRows
			}
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
}

// checkQuarantine proves that the rows left out are counted, each once, and that those to be tried again have a job for it that has not succeeded.
func checkQuarantine(t TB, conn *pgx.Conn, id int64, status string) {
	t.Helper()
	var counted, rows, keys, tried, open int64
	err := conn.QueryRow(context.Background(), `
		SELECT
			(SELECT m.quarantined_rows FROM bbm.batched_background_migrations AS m WHERE m.id = $1),
			count(*), count(DISTINCT q.row_key), count(q.retry_job_id), count(j.id)
		FROM bbm.batched_background_migration_quarantined_rows AS q
		LEFT JOIN bbm.batched_background_migration_jobs AS j
			ON j.id = q.retry_job_id AND j.is_single_row AND j.until_key = q.row_key AND j.status <> 'succeeded' AND j.batched_background_migration_id = $1
		WHERE q.batched_background_migration_id = $1 AND q.mended_at IS NULL`, id).Scan(&counted, &rows, &keys, &tried, &open)
	require.NoError(t, err)
	assert.Equal(t, rows, counted, "quarantined_rows")
	assert.Equal(t, rows, keys, "a row is in quarantine once")
	assert.Equal(t, tried, open, "each row to be tried again has a job for it")
	if status == "finished" {
		assert.Zero(t, tried, "a finished migration has no row to be tried again")
	}
}

func checkTiling(t TB, jobs []historyJob, frontier []string) {
	t.Helper()
	var end []string
	for _, job := range jobs {
		if job.Pass > 0 {
			continue // goes again over a part of the range
		}
		assert.Equal(t, end, job.AfterKey, "job %d begins where the one before ends", job.ID)
		assert.NotEqual(t, job.AfterKey, job.UntilKey, "job %d has no range", job.ID)
		end = job.UntilKey
	}
	assert.Equal(t, frontier, end, "the last job ends at the frontier")
}

// checkLogs follows each job. A retry of the migration counts attempts anew, for jobs that wait without being logged.
func checkLogs(t TB, jobs []historyJob, logs []historyLog, isRetried bool) {
	t.Helper()
	byJob := make(map[int64][]historyLog)
	for _, log := range logs {
		byJob[log.JobID] = append(byJob[log.JobID], log)
	}
	equalOrReset := func(expected, actual int32, message string, args ...any) {
		t.Helper()
		if isRetried {
			assert.LessOrEqual(t, actual, expected, append([]any{message}, args...)...)
		} else {
			assert.Equal(t, expected, actual, append([]any{message}, args...)...)
		}
	}
	for _, job := range jobs {
		history := byJob[job.ID]
		if !assert.NotEmpty(t, history, "job %d has a history", job.ID) {
			continue
		}
		var previous *string
		var starts int64
		var failures int32
		for i, log := range history {
			assert.Equal(t, previous, log.Previous, "job %d, transition %d", job.ID, i)
			assert.Contains(t, jobTransitions[orNone(log.Previous)], log.Next, "transition %d of job %d is no transition of a job", i, job.ID)
			if i > 0 {
				assert.False(t, log.CreatedAt.Before(history[i-1].CreatedAt), "job %d, transition %d goes back in time", job.ID, i)
			}
			if log.Next == "failed" || orNone(log.Previous) == "running" && log.Next == "pending" {
				assert.NotNil(t, log.Class, "job %d, transition %d tells why", job.ID, i)
			}
			if orNone(log.Previous) == "failed" && log.Next == "pending" {
				failures = 0
			}
			equalOrReset(failures+1, log.Attempt, "attempt of transition %d of job %d", i, job.ID)
			if log.Next == "running" {
				starts++
			}
			if log.Next == "failed" {
				failures++
			}
			previous = &log.Next
		}
		assert.Equal(t, job.Status, *previous, "the last transition of job %d is its status", job.ID)
		assert.Equal(t, job.Claims, starts, "claims of job %d", job.ID)
		equalOrReset(failures, job.Attempts, "attempts of job %d", job.ID)
	}
}

func orNone(status *string) string {
	if status == nil {
		return ""
	}
	return *status
}

// checkConcurrency counts how many jobs ran at once, of whatever migration, by the history's timestamps; and how many in one slot, as far as it is
// known: a job's row tells that of its last start.
func checkConcurrency(t TB, conn *pgx.Conn) {
	t.Helper()
	rows, err := conn.Query(context.Background(), `
		SELECT l.started_at, l.ended_at, CASE WHEN l.is_last THEN j.slot END
		FROM (
			SELECT
				l.batched_background_migration_job_id AS job_id, l.next_status, l.created_at AS started_at,
				lead(l.created_at) OVER job AS ended_at,
				max(l.id) FILTER (WHERE l.next_status = 'running') OVER (PARTITION BY l.batched_background_migration_job_id) = l.id AS is_last
			FROM bbm.batched_background_migration_job_transition_logs AS l
			WINDOW job AS (PARTITION BY l.batched_background_migration_job_id ORDER BY l.id)
		) AS l
		JOIN bbm.batched_background_migration_jobs AS j ON j.id = l.job_id
		WHERE l.next_status = 'running'`)
	require.NoError(t, err)
	type run struct {
		StartedAt time.Time
		EndedAt   *time.Time
		Slot      *int32
	}
	runs, err := pgx.CollectRows(rows, pgx.RowToStructByPos[run])
	require.NoError(t, err)
	var slots int
	require.NoError(t, conn.QueryRow(context.Background(), `
		SELECT greatest(f.slots, (SELECT max(j.slot) FROM bbm.batched_background_migration_jobs AS j)) FROM bbm.fleet_settings AS f`).Scan(&slots))

	type event struct {
		at    time.Time
		delta int
		slot  int32
	}
	var events []event
	for _, r := range runs {
		var slot int32 // 0: not known
		if r.Slot != nil {
			slot = *r.Slot
		}
		events = append(events, event{r.StartedAt, 1, slot})
		if r.EndedAt != nil {
			events = append(events, event{*r.EndedAt, -1, slot})
		}
	}
	slices.SortStableFunc(events, func(a, b event) int {
		// An end and a start at the same instant do not overlap.
		return cmp.Or(a.at.Compare(b.at), a.delta-b.delta)
	})
	now, inSlot := 0, make(map[int32]int)
	for _, e := range events {
		now += e.delta
		inSlot[e.slot] += e.delta
		if !assert.LessOrEqual(t, now, slots, "more jobs at once than slots, at %s", e.at) ||
			e.slot > 0 && !assert.LessOrEqual(t, inSlot[e.slot], 1, "jobs in slot %d at once, at %s", e.slot, e.at) {
			return
		}
	}
}

// checkMigrationLogs follows the migration, and tells whether it was set going again after a failure.
func checkMigrationLogs(t TB, conn *pgx.Conn, id int64, status string) (isRetried bool) {
	t.Helper()
	rows, err := conn.Query(context.Background(), `
		SELECT 0::bigint, created_at, previous_status::text, next_status::text, 0, NULL::text
		FROM bbm.batched_background_migration_transition_logs WHERE batched_background_migration_id = $1 ORDER BY id`, id)
	require.NoError(t, err)
	logs, err := pgx.CollectRows(rows, pgx.RowToStructByPos[historyLog])
	require.NoError(t, err)
	require.NotEmpty(t, logs, "the migration has a history")
	var singleRows int
	require.NoError(t, conn.QueryRow(context.Background(), `
		SELECT count(*) FROM bbm.batched_background_migration_jobs WHERE batched_background_migration_id = $1 AND is_single_row`, id).Scan(&singleRows))
	var previous *string
	for i, log := range logs {
		assert.Equal(t, previous, log.Previous, "transition %d of the migration", i)
		assert.Contains(t, migrationTransitions[orNone(log.Previous)], log.Next, "transition %d is no transition of a migration", i)
		isRetried = isRetried || orNone(log.Previous) == "failed" && log.Next == "active"
		if orNone(log.Previous) == "finished" {
			assert.NotZero(t, singleRows, "the migration went on after its end, and no row was to be tried again")
		}
		previous = &log.Next
	}
	assert.Equal(t, status, *previous, "the migration's last transition is its status")
	return isRetried
}
