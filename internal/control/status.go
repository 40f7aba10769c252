package control

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/bbm-runner/bbm-runner/internal/blocked"
	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/session"
)

// Migration is how a migration stands, as `status --json` shows it: the names are a contract. Times are in UTC.
type Migration struct {
	Name          string     `json:"name"`
	Work          string     `json:"work"`
	Table         string     `json:"table"`
	Status        string     `json:"status"`
	Progress      float64    `json:"progress"` // 0 to 1; 1 only when finished
	ProcessedRows int64      `json:"processed_rows"`
	TotalRows     int64      `json:"total_rows"` // an estimate
	AffectedRows  int64      `json:"affected_rows"`
	RowsPerSecond *float64   `json:"rows_per_second"` // null: unknown, or it does not run
	ETASeconds    *int64     `json:"eta_seconds"`     // null: unknown, or it does not run
	Jobs          JobCounts  `json:"jobs"`
	WaitingFor    *string    `json:"waiting_for"` // a whole phrase: "paused by alice@host: deploy"; null: nothing
	Hold          *Hold      `json:"hold"`
	Failure       *Failure   `json:"failure"`
	FailedRow     *FailedRow `json:"failed_row"`       // on which a job has failed that is not done; null: none, or not one row
	LeftOut       int64      `json:"quarantined_rows"` // rows that failed and were left out
	CreatedAt     time.Time  `json:"created_at"`
	StartedAt     *time.Time `json:"started_at"`
	FinishedAt    *time.Time `json:"finished_at"`

	Verification *Verification `json:"verification"` // the walk that looks for rows which remain; null: none is under way
	Proof        *Proof        `json:"proof"`        // null: not finished, or the work does not say what remains

	Details Details `json:"-"`
}

// JobCounts are a migration's jobs by status.
type JobCounts struct {
	Pending   int64 `json:"pending"`
	Running   int64 `json:"running"`
	Failed    int64 `json:"failed"`
	Succeeded int64 `json:"succeeded"`
}

// Hold keeps a migration from being claimed until a time.
type Hold struct {
	Until  time.Time `json:"until"`
	Reason string    `json:"reason"`
}

// Failure is why a migration has failed.
type Failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// FailedRow is the one row on which a job's last attempt failed.
type FailedRow struct {
	Job        int64    `json:"job"`
	Attempts   int32    `json:"attempts"`
	Cursor     []string `json:"cursor"`
	Key        []string `json:"key"` // a text for each column of the cursor
	Exception  string   `json:"exception_class"`
	Message    string   `json:"exception_message"`
	Constraint *string  `json:"exception_constraint"`
}

// Verification is a walk over the whole table, behind the last job, for rows that the work has still to change.
type Verification struct {
	Pass          int32   `json:"pass"`     // from 1: the fourth is the last
	Progress      float64 `json:"progress"` // of this walk, 0 to 1, by an estimate
	WalkedRows    int64   `json:"walked_rows"`
	RemainingRows int64   `json:"remaining_rows"` // found so far
}

// Proof is that walk when it has found none but those in quarantine. Rows that came out of it since
// were looked at one by one.
type Proof struct {
	VerifiedAt time.Time `json:"verified_at"`
	Rows       int64     `json:"rows"`             // looked at
	LeftOut    int64     `json:"quarantined_rows"` // which may remain
	Statement  string    `json:"statement"`
}

// Details are a migration's definition and tuning.
type Details struct {
	Checksum     *string // nil: no version of the work is pinned yet
	Cursor       []string
	Remaining    *string         // what holds for rows which are still to be changed; nil: the work does not say
	Arguments    json.RawMessage // an object
	BatchSize    *int32          // nil: not prepared yet
	SubBatchSize *int32          // nil: chosen by the runner
	Interval     time.Duration
	Pause        time.Duration
	MaxAttempts  int32
	Parallelism  int32
	OnRowError   string // fail or quarantine
	Quarantine   int32  // how many rows may be left out
	EnqueuedBy   string
	MaxKey       []string // the upper bound; nil: not prepared yet
	FrontierKey  []string // what has been cut into jobs
}

// Status returns how the migrations stand, oldest first; all when no name is given. [ErrNotFound] when one of the names is missing.
func (c *Control) Status(ctx context.Context, names ...string) ([]Migration, error) {
	ctx = session.Cancellable(ctx)
	ids, err := queries.MigrationFindIDs(ctx, c.Conn, names)
	if len(names) == 0 {
		ids, err = queries.MigrationListIDs(ctx, c.Conn)
	}
	if err != nil {
		return nil, fmt.Errorf("find the migrations: %w", err)
	}
	rows, err := queries.MigrationListFacts(ctx, c.Conn, ids)
	if err != nil {
		return nil, fmt.Errorf("read the status: %w", err)
	}
	migrations := make([]Migration, 0, len(rows))
	for _, row := range rows {
		by, err := c.blockedBy(ctx, row)
		if err != nil {
			return nil, err
		}
		migrations = append(migrations, describe(row, by))
	}
	for _, name := range names {
		if !slices.ContainsFunc(migrations, func(m Migration) bool { return m.Name == name }) {
			return nil, c.notFound(ctx, name)
		}
	}
	return migrations, nil
}

// blockedBy says who keeps a migration from changing rows that executes, or that nothing else keeps
// from it; "" where its rows have moved within the last second.
func (c *Control) blockedBy(ctx context.Context, f dbgen.MigrationListFactsRow) (string, error) {
	const moment = time.Second
	var (
		isExecuting = len(f.ExecutingPids) > 0
		isMoving    = isExecuting && f.MovedAt != nil && f.ObservedAt.Sub(*f.MovedAt) < moment
		isOver      = f.Migration.Status != active && f.Migration.Status != running
	)
	if isMoving || isOver && !isExecuting || f.WaitingFor != nil {
		return "", nil
	}
	blockers, err := queries.BlockerList(ctx, c.Conn, dbgen.BlockerListParams{
		TableOid: f.Migration.TableOid, WaitingPids: f.ExecutingPids, Holders: true,
	})
	if err != nil {
		return "", fmt.Errorf("look for who is in the way: %w", err)
	}
	return blocked.By(blockers), nil
}

// describe turns the facts into what people read; by is who is in the way, if anybody.
func describe(f dbgen.MigrationListFactsRow, by string) Migration {
	m := f.Migration
	d := Migration{
		Name: m.Name, Work: m.WorkName, Table: m.TableName, Status: string(m.Status), Progress: value(f.Progress),
		ProcessedRows: value(f.ProcessedRows), TotalRows: value(f.TotalRows), AffectedRows: value(f.AffectedRows),
		RowsPerSecond: f.RowsPerSecond, ETASeconds: f.EtaSeconds, WaitingFor: f.WaitingFor,
		Jobs:      JobCounts{value(f.PendingJobs), value(f.RunningJobs), value(f.FailedJobs), m.SucceededJobs},
		LeftOut:   m.QuarantinedRows,
		CreatedAt: m.CreatedAt.UTC(), StartedAt: utc(m.StartedAt), FinishedAt: utc(m.FinishedAt),
		Details: Details{
			Checksum: m.WorkChecksum, Cursor: m.CursorColumns, Remaining: m.RemainingPredicate, Arguments: m.Arguments, BatchSize: m.BatchSize,
			SubBatchSize: m.SubBatchSize, Interval: m.JobInterval, Pause: m.Pause, MaxAttempts: m.MaxAttempts, Parallelism: m.Parallelism,
			OnRowError: string(m.OnRowError), Quarantine: m.QuarantineLimit, EnqueuedBy: m.EnqueuedBy,
			MaxKey: m.MaxKey, FrontierKey: m.FrontierKey,
		},
	}
	if by != "" {
		d.WaitingFor, d.RowsPerSecond, d.ETASeconds = &by, nil, nil
	}
	if f.OnHoldUntil != nil {
		d.Hold = &Hold{f.OnHoldUntil.UTC(), value(m.HoldReason)}
	}
	if m.FailureErrorCode != nil {
		d.Failure = &Failure{string(*m.FailureErrorCode), value(m.FailureMessage)}
	}
	if f.FailedRowKey != nil {
		d.FailedRow = &FailedRow{
			Job: value(f.FailedRowJob), Attempts: value(f.FailedRowAttempts), Cursor: m.CursorColumns, Key: f.FailedRowKey,
			Exception: value(f.FailedRowExceptionClass), Message: value(f.FailedRowExceptionMessage), Constraint: f.FailedRowExceptionConstraint,
		}
	}
	if m.VerifiedAt != nil && m.Status == finished {
		d.Proof = &Proof{m.VerifiedAt.UTC(), value(m.VerifiedRows), m.QuarantinedRows, value(m.VerifiedStatement)}
	}
	if f.VerificationPass != nil {
		d.Verification = &Verification{
			*f.VerificationPass, value(f.VerificationProgress), value(f.VerificationWalkedRows), value(f.VerificationRemainingRows),
		}
	}
	return d
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	in := t.UTC()
	return &in
}
