package control

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// pageSize keeps memory flat however many jobs a migration has: a page of 1,000 rows is about a megabyte at most.
const pageSize = 1000

// Job is a row of batched_background_migration_jobs under its column names. Times are in UTC.
type Job struct {
	ID                  int64      `json:"id"`
	MigrationID         int64      `json:"batched_background_migration_id"`
	Pass                int32      `json:"pass"`          // above 0: goes again over a part of the range
	IsSingleRow         bool       `json:"is_single_row"` // about the row of until_key alone
	AfterKey            []string   `json:"after_key"`     // null: the first range has no lower bound
	UntilKey            []string   `json:"until_key"`
	ProgressKey         []string   `json:"progress_key"`
	Status              string     `json:"status"`
	Attempts            int32      `json:"attempts"` // failures
	Claims              int64      `json:"claims"`   // starts
	Stalls              int32      `json:"stalls"`   // interruptions in a row without progress
	Slot                *int32     `json:"slot"`
	Runner              *string    `json:"runner"`
	ProcessedRows       int64      `json:"processed_rows"`
	AffectedRows        int64      `json:"affected_rows"`
	NextAttemptAt       *time.Time `json:"next_attempt_at"`
	ExceptionClass      *string    `json:"exception_class"`
	ExceptionMessage    *string    `json:"exception_message"`
	ExceptionKey        []string   `json:"exception_key"` // null: not known, or more than one row
	ExceptionConstraint *string    `json:"exception_constraint"`
	CreatedAt           time.Time  `json:"created_at"`
	UpdatedAt           time.Time  `json:"updated_at"`
	StartedAt           *time.Time `json:"started_at"`
	FinishedAt          *time.Time `json:"finished_at"`
}

// LogRow is a row of batched_background_migration_job_transition_logs under its column names.
type LogRow struct {
	ID                  int64     `json:"id"`
	JobID               int64     `json:"batched_background_migration_job_id"`
	CreatedAt           time.Time `json:"created_at"`
	PreviousStatus      *string   `json:"previous_status"` // null: the job was made
	NextStatus          string    `json:"next_status"`
	Attempt             int32     `json:"attempt"`
	ExceptionClass      *string   `json:"exception_class"`
	ExceptionMessage    *string   `json:"exception_message"`
	ExceptionKey        []string  `json:"exception_key"` // null: not known, or more than one row
	ExceptionConstraint *string   `json:"exception_constraint"`
}

// MigrationLogRow is a row of batched_background_migration_transition_logs under its column names.
type MigrationLogRow struct {
	ID             int64     `json:"id"`
	MigrationID    int64     `json:"batched_background_migration_id"`
	CreatedAt      time.Time `json:"created_at"`
	PreviousStatus *string   `json:"previous_status"` // null: the migration was enqueued
	NextStatus     string    `json:"next_status"`
	ChangedBy      string    `json:"changed_by"` // as the program that made the change says
	Reason         *string   `json:"reason"`
	SessionRole    *string   `json:"session_role"` // as the database knows it; null: changed before it was noted
}

// Jobs calls page with the jobs of a migration, oldest first, up to 1,000 at a time; status "" stands for all. It stops at the first error
// of page and returns it. [ErrNotFound] when there is no such migration, [*InputError] for an unknown status.
func (c *Control) Jobs(ctx context.Context, name, status string, page func([]Job) error) error {
	if status != "" && !dbgen.JobStatus(status).Valid() {
		return inputf("unknown status %q; give pending, running, failed or succeeded", status)
	}
	m, err := c.get(ctx, name)
	if err != nil {
		return err
	}
	for after, more := int64(0), true; more; {
		rows, err := c.jobsAfter(ctx, m.ID, after, dbgen.JobStatus(status))
		if err != nil {
			return fmt.Errorf("list the jobs of %q: %w", name, err)
		}
		jobs := make([]Job, len(rows))
		for i, row := range rows {
			jobs[i] = readJob(row)
			after = row.ID
		}
		if len(jobs) > 0 {
			if err := page(jobs); err != nil {
				return err
			}
		}
		more = len(rows) == pageSize
	}
	return nil
}

func (c *Control) jobsAfter(ctx context.Context, migrationID, after int64, status dbgen.JobStatus) ([]dbgen.Job, error) {
	switch status {
	case "":
		return queries.JobList(ctx, c.Conn, dbgen.JobListParams{MigrationID: migrationID, AfterID: after, PageSize: pageSize})
	case dbgen.BBMJobStatusSucceeded:
		return queries.JobListSucceeded(ctx, c.Conn, dbgen.JobListSucceededParams{MigrationID: migrationID, AfterID: after, PageSize: pageSize})
	}
	return queries.JobListUnsucceeded(ctx, c.Conn, dbgen.JobListUnsucceededParams{
		MigrationID: migrationID, AfterID: after, Status: status, PageSize: pageSize,
	})
}

func readJob(j dbgen.Job) Job {
	return Job{
		ID: j.ID, MigrationID: j.BatchedBackgroundMigrationID, Pass: j.Pass, IsSingleRow: j.IsSingleRow,
		AfterKey: j.AfterKey, UntilKey: j.UntilKey, ProgressKey: j.ProgressKey,
		Status: string(j.Status), Attempts: j.Attempts, Claims: j.Claims, Stalls: j.Stalls, Slot: j.Slot, Runner: j.Runner,
		ProcessedRows: j.ProcessedRows, AffectedRows: j.AffectedRows, NextAttemptAt: utc(j.NextAttemptAt),
		ExceptionClass: j.ExceptionClass, ExceptionMessage: j.ExceptionMessage,
		ExceptionKey: j.ExceptionKey, ExceptionConstraint: j.ExceptionConstraint,
		CreatedAt: j.CreatedAt.UTC(), UpdatedAt: j.UpdatedAt.UTC(), StartedAt: utc(j.StartedAt), FinishedAt: utc(j.FinishedAt),
	}
}

// Logs calls page with the changes of status of a migration's jobs, in order, as [Control.Jobs] does with the jobs.
//
// The server gives them job by job, which costs the same for every page; here they are put into the order of their making. A job is made
// after the one before it, so that once its creation has been read, nothing older is still to come: only what happened later to earlier jobs,
// their retries, is held back.
func (c *Control) Logs(ctx context.Context, name string, page func([]LogRow) error) error {
	m, err := c.get(ctx, name)
	if err != nil {
		return err
	}
	var held []LogRow
	next := dbgen.JobLogListParams{MigrationID: m.ID, Since: m.CreatedAt, PageSize: pageSize}
	for more := true; more; {
		rows, err := queries.JobLogList(ctx, c.Conn, next)
		if err != nil {
			return fmt.Errorf("list the history of %q: %w", name, err)
		}
		more = len(rows) == pageSize
		settled := int64(0)
		for _, row := range rows {
			held = append(held, readLog(row))
			next.AfterJobID, next.AfterID = row.BatchedBackgroundMigrationJobID, row.ID
			if row.PreviousStatus == nil {
				settled = row.ID
			}
		}
		slices.SortFunc(held, func(a, b LogRow) int { return cmp.Compare(a.ID, b.ID) })
		ready := len(held)
		if more {
			ready, _ = slices.BinarySearchFunc(held, settled, func(row LogRow, id int64) int { return cmp.Compare(row.ID, id) })
		}
		for part := range slices.Chunk(held[:ready], pageSize) {
			if err := page(part); err != nil {
				return err
			}
		}
		held = slices.Clone(held[ready:])
	}
	return nil
}

func readLog(l dbgen.JobTransitionLog) LogRow {
	return LogRow{
		l.ID, l.BatchedBackgroundMigrationJobID, l.CreatedAt.UTC(), text(l.PreviousStatus), string(l.NextStatus),
		l.Attempt, l.ExceptionClass, l.ExceptionMessage, l.ExceptionKey, l.ExceptionConstraint,
	}
}

// MigrationLogs returns the changes of a migration's own status, in order, with who made them and why. [ErrNotFound] when there is none of
// that name.
func (c *Control) MigrationLogs(ctx context.Context, name string) ([]MigrationLogRow, error) {
	m, err := c.get(ctx, name)
	if err != nil {
		return nil, err
	}
	rows, err := queries.MigrationLogList(ctx, c.Conn, m.ID)
	if err != nil {
		return nil, fmt.Errorf("list the history of %q: %w", name, err)
	}
	logs := make([]MigrationLogRow, len(rows))
	for i, row := range rows {
		logs[i] = MigrationLogRow{
			row.ID, row.BatchedBackgroundMigrationID, row.CreatedAt.UTC(), text(row.PreviousStatus), string(row.NextStatus),
			row.ChangedBy, row.Reason, row.SessionRole,
		}
	}
	return logs, nil
}

// text converts a status that may be null.
func text[S ~string](status *S) *string {
	if status == nil {
		return nil
	}
	converted := string(*status)
	return &converted
}
