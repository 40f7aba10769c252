package control

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// QuarantinedRow is a row of batched_background_migration_quarantined_rows under its column names. Times are in UTC.
type QuarantinedRow struct {
	ID                  int64      `json:"id"`
	MigrationID         int64      `json:"batched_background_migration_id"`
	JobID               int64      `json:"batched_background_migration_job_id"` // that left it out last
	RetryJobID          *int64     `json:"retry_job_id"`                        // that is to try it again; null: it rests
	AfterKey            []string   `json:"after_key"`                           // the key before it, when it was left out
	RowKey              []string   `json:"row_key"`
	Failures            int32      `json:"failures"`
	ExceptionClass      string     `json:"exception_class"`
	ExceptionMessage    string     `json:"exception_message"`
	ExceptionConstraint *string    `json:"exception_constraint"`
	CreatedAt           time.Time  `json:"created_at"`
	UpdatedAt           time.Time  `json:"updated_at"`
	MendedAt            *time.Time `json:"mended_at"` // null: it is left out
}

// Quarantined calls page with the rows that are left out of a migration, in the order in which they were, as [Control.Jobs] does with the jobs.
func (c *Control) Quarantined(ctx context.Context, name string, page func([]QuarantinedRow) error) error {
	return c.quarantined(ctx, name, false, page)
}

// QuarantineHistory returns all rows that a migration has ever left out, those that were changed
// after all included, in the order in which they were.
func (c *Control) QuarantineHistory(ctx context.Context, name string) (all []QuarantinedRow, err error) {
	err = c.quarantined(ctx, name, true, func(page []QuarantinedRow) error {
		all = append(all, page...)
		return nil
	})
	return all, err
}

func (c *Control) quarantined(ctx context.Context, name string, withMended bool, page func([]QuarantinedRow) error) error {
	m, err := c.get(ctx, name)
	if err != nil {
		return err
	}
	for after, more := int64(0), true; more; {
		rows, err := queries.QuarantineList(ctx, c.Conn, dbgen.QuarantineListParams{
			MigrationID: m.ID, AfterID: after, IsWithMended: withMended, PageSize: pageSize,
		})
		if err != nil {
			return fmt.Errorf("list the quarantine of %q: %w", name, err)
		}
		quarantined := make([]QuarantinedRow, len(rows))
		for i, row := range rows {
			quarantined[i] = readQuarantined(row)
			after = row.ID
		}
		if len(quarantined) > 0 {
			if err := page(quarantined); err != nil {
				return err
			}
		}
		more = len(rows) == pageSize
	}
	return nil
}

func readQuarantined(q dbgen.QuarantinedRow) QuarantinedRow {
	return QuarantinedRow{
		ID: q.ID, MigrationID: q.BatchedBackgroundMigrationID, JobID: q.BatchedBackgroundMigrationJobID, RetryJobID: q.RetryJobID,
		AfterKey: q.AfterKey, RowKey: q.RowKey, Failures: q.Failures,
		ExceptionClass: q.ExceptionClass, ExceptionMessage: q.ExceptionMessage, ExceptionConstraint: q.ExceptionConstraint,
		CreatedAt: q.CreatedAt.UTC(), UpdatedAt: q.UpdatedAt.UTC(), MendedAt: utc(q.MendedAt),
	}
}

// RetryQuarantined makes a job for each row that is left out and not being tried again already, and returns how many. A finished migration goes on for
// them, and is not finished until they have ended; others keep their status. A row that fails again comes back, whatever on_row_error says now.
//
// acceptWork is as for [Control.Resume], for a finished migration; one that is not is an [*InputError] then, since others adopt a work by resume or retry. A
// cancelled one is an [*InputError].
func (c *Control) RetryQuarantined(ctx context.Context, name, reason string, acceptWork bool) (rows int64, err error) {
	adoption, err := c.examine(ctx, name, acceptWork, finished)
	if err != nil {
		return 0, err
	}
	if reason == "" {
		reason = "rows in quarantine are tried again"
	}
	err = c.locked(ctx, name, func(tx pgx.Tx, m dbgen.Migration) error {
		switch {
		case m.Status == cancelled:
			return inputf("migration %q is cancelled; enqueue it under another name to run it again", name)
		case acceptWork && m.Status == failed:
			return inputf("migration %q has failed; adopt the work with: bbm-runner retry %s --accept-work", name, name)
		case acceptWork && m.Status != finished:
			return inputf("migration %q is %s; adopt the work with: bbm-runner resume %s --accept-work", name, m.Status, name)
		case m.QuarantinedRows == 0:
			return nil
		}
		if err := adoption.check(ctx, tx, m); err != nil {
			return err
		}
		rows, err = queries.QuarantineRetry(ctx, tx, dbgen.QuarantineRetryParams{
			MigrationID: m.ID, WorkChecksum: adoption.checksum(), RemainingPredicate: adoption.predicate(), RowSet: adoption.rowSet(),
			ChangedBy: c.ChangedBy, Reason: adoption.reason(reason),
		})
		return wrap(err, "try the rows in quarantine again of", name)
	})
	return rows, err
}
