package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/session"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// maxPasses is how many times a migration goes again over ranges in which rows remain. One mends what was written while it ran; where a third finds
// rows still, somebody goes on writing them, and no number of passes would do.
const maxPasses = 3

// errRowsRemain is reported when a migration has failed because rows remain after its last pass.
var errRowsRemain = errors.New("rows remain after the last pass")

// prove goes on with the walk that proves a migration done, by one piece: in a transaction of its own, so that between two pieces other migrations have
// their turn and commands take effect. It is called with the transaction of a claim open, of which nothing has come.
func (e *Executor) prove(ctx context.Context, c *claimedJob) (isBusy bool, err error) {
	pass, err := e.openWalk(ctx, c)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil // a job has not succeeded yet
	}
	if err != nil {
		return false, err
	}
	e.runner.noteExecuted(c.migration.ID)
	if _, err := e.conn.Exec(ctx, beginReadCommitted); err != nil {
		return false, fmt.Errorf("begin piece: %w", err)
	}
	walk, err := e.queries.VerificationLock(ctx, e.conn, dbgen.VerificationLockParams{MigrationID: c.migration.ID, Pass: pass})
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil // another runner is at it
	}
	if err != nil {
		return false, fmt.Errorf("lock walk: %w", err)
	}
	if walk.Statement == nil || walk.WorkChecksum != c.work.Checksum() {
		begun, err := e.beginWalk(ctx, c, walk)
		if err != nil || begun == nil {
			return false, err
		}
		walk = *begun
	}
	return e.walkPiece(ctx, c, walk)
}

// openWalk makes the next walk, or finds the one that is under way, and commits; the migration keeps its table for it.
func (e *Executor) openWalk(ctx context.Context, c *claimedJob) (pass int32, err error) {
	m := c.migration
	pass, err = e.queries.VerificationOpen(ctx, e.conn, dbgen.VerificationOpenParams{MigrationID: m.ID, MaxPasses: maxPasses})
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, err
	}
	if err == nil && m.Status == dbgen.BBMMigrationStatusActive {
		_, err = e.queries.MigrationStart(ctx, e.conn, dbgen.MigrationStartParams{MigrationID: m.ID, ChangedBy: e.identity})
	}
	if err == nil {
		_, err = e.conn.Exec(ctx, "COMMIT")
	}
	if err != nil {
		return 0, fmt.Errorf("open walk: %w", err)
	}
	return pass, nil
}

// beginWalk waits for the transactions that were open when the walk was made, so that it sees what they have written, and then fixes its end. nil: one
// of them is still open.
func (e *Executor) beginWalk(ctx context.Context, c *claimedJob, walk dbgen.Verification) (*dbgen.Verification, error) {
	awaited, err := e.queries.VerificationAwait(ctx, e.conn, dbgen.VerificationAwaitParams{
		MigrationID: c.migration.ID, Pass: walk.Pass, WorkChecksum: c.work.Checksum(),
	})
	if err != nil {
		return nil, fmt.Errorf("note open transactions: %w", err)
	}
	if len(awaited) > 0 {
		if _, err := e.conn.Exec(ctx, "COMMIT"); err != nil {
			return nil, fmt.Errorf("commit open transactions: %w", err)
		}
		return nil, nil
	}
	if _, err := e.conn.Exec(ctx, work.StreamingPlans); err != nil {
		return nil, fmt.Errorf("set up the search for the last key: %w", err)
	}
	var until []string
	err = e.conn.QueryRow(session.Cancellable(ctx), c.statements.LastKeyOfAll()).Scan(&until)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, &workError{err: fmt.Errorf("read last key: %w", err)}
	}
	begun, err := e.queries.VerificationBegin(ctx, e.conn, dbgen.VerificationBeginParams{
		MigrationID: c.migration.ID, Pass: walk.Pass, WorkChecksum: c.work.Checksum(), Statement: c.statements.RemainingStatement(),
		UntilKey: until, ExpectedRows: c.statements.EstimatedRows(),
	})
	if err != nil {
		return nil, fmt.Errorf("begin walk: %w", err)
	}
	e.log.Info("looking for rows that remain", "migration", c.migration.Name, "pass", walk.Pass, "until", until)
	return &begun, nil
}

// walkPiece reads one piece and commits how far the walk has come, with a job over it where rows remain.
func (e *Executor) walkPiece(ctx context.Context, c *claimedJob, walk dbgen.Verification) (isBusy bool, err error) {
	size := e.pieceSize(c.migration)
	piece := work.Piece{}
	if walk.UntilKey != nil { // else the table has no row
		if _, err := e.conn.Exec(ctx, work.StreamingPlans); err != nil {
			return false, fmt.Errorf("set up the look for rows that remain: %w", err)
		}
		leftOut, err := e.queries.QuarantineListKeys(ctx, e.conn, c.migration.ID)
		if err != nil {
			return false, fmt.Errorf("list the rows left out: %w", err)
		}
		began := time.Now()
		piece, err = c.statements.LookThrough(session.Cancellable(ctx), e.conn, work.Range{After: walk.ProgressKey, Until: walk.UntilKey}, size.Rows(), leftOut)
		took := time.Since(began)
		if err != nil && classify(err, failure{}) == kindCancelled && took >= e.config.StatementTimeout && ctx.Err() == nil && size.Lose() {
			e.log.Warn("a piece was not read in time; smaller ones are read", "migration", c.migration.Name, "rows", size.Rows(), "error", err)
			return true, nil
		}
		if err != nil {
			return false, &workError{err: err}
		}
		size.Observe(piece.Rows, took)
	}
	keys, err := json.Marshal(append([]work.Key{}, piece.Keys...))
	if err != nil {
		return false, err
	}
	progress, err := e.queries.VerificationProgress(ctx, e.conn, dbgen.VerificationProgressParams{
		MigrationID: c.migration.ID, Pass: walk.Pass, AfterKey: walk.ProgressKey, ProgressKey: piece.Until, Rows: piece.Rows,
		RemainingRows: piece.Remaining, RemainingKeys: keys, LastRemainingKey: piece.LastRemaining,
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return true, nil // it was paused, or the fleet disabled: look again
	}
	if err != nil {
		return false, fmt.Errorf("progress of walk: %w", err)
	}
	e.usedSlot = true
	return e.conclude(ctx, c, walk.Pass, progress)
}

// conclude commits a piece. At the end of the walk the migration is finished, or goes again over what remains, or has failed.
func (e *Executor) conclude(ctx context.Context, c *claimedJob, pass int32, walked dbgen.VerificationProgressRow) (isBusy bool, err error) {
	var (
		m       = c.migration
		log     = e.log.With("migration", m.Name, "pass", pass, "rows", walked.WalkedRows)
		isOver  = walked.IsFinished
		isClean = isOver && walked.RemainingRows == 0
		isLost  = isOver && !isClean && walked.PassesLeft == 0
		proved  dbgen.MigrationProveRow
	)
	switch {
	case isClean:
		proved, err = e.queries.MigrationProve(ctx, e.conn, dbgen.MigrationProveParams{MigrationID: m.ID, Pass: pass, ChangedBy: e.identity})
	case isLost:
		_, err = e.queries.MigrationReject(ctx, e.conn, dbgen.MigrationRejectParams{
			MigrationID: m.ID, FailureCode: dbgen.BBMMigrationFailureCodeRowsRemaining, FailureMessage: printable(c.remainMessage(walked)),
			ChangedBy: e.identity,
		})
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return true, nil // it was paused: the last piece is read again
	}
	if err == nil {
		_, err = e.conn.Exec(ctx, "COMMIT")
	}
	if err != nil {
		return false, fmt.Errorf("commit piece: %w", err)
	}
	switch {
	case isClean:
		logFinished(log, proved.VerifiedAt, proved.QuarantinedRows)
	case isLost:
		log.Error("migration failed: rows remain", "code", dbgen.BBMMigrationFailureCodeRowsRemaining, "error", c.remainMessage(walked),
			"remaining", walked.RemainingRows, "keys", string(walked.RemainingKeys))
		e.config.Report(ctx, errRowsRemain, map[string]string{
			"migration": m.Name, "work": m.WorkName, "code": string(dbgen.BBMMigrationFailureCodeRowsRemaining),
		})
	case isOver:
		log.Warn("rows remain; the walk is repeated", "remaining", walked.RemainingRows, "keys", string(walked.RemainingKeys))
	default:
		// A longer pause is kept by not claiming; see MigrationListClaimable.
		sleep(ctx, min(m.Pause, e.config.PollInterval, e.config.IdleTimeout/idleShare))
	}
	return true, nil
}

// errRowRemains is returned when a row that was tried again has still to be changed.
var errRowRemains = errors.New("the work ran for the row, and has left it as one that remains")

// proveRow looks at the row that a job tries again, behind the work and in its transaction. So
// whatever leaves the quarantine is done, wherever a walk has come to meanwhile, and needs none of
// its own.
func (e *Executor) proveRow(ctx context.Context, job *claimedJob, key work.Key) error {
	if !job.IsSingleRow || job.work.Remaining == "" {
		return nil
	}
	sql, values := job.statements.RowRemains(key)
	var remains bool
	if err := e.conn.QueryRow(ctx, sql, values...).Scan(&remains); err != nil {
		return &workError{err: fmt.Errorf("look at the row: %w", err)}
	}
	if remains {
		return &workError{err: &work.RowError{Err: fmt.Errorf("%w: %s", errRowRemains, job.work.Remaining)}}
	}
	return nil
}

// remainMessage says what remains, and what to do about it.
func (c *claimedJob) remainMessage(walked dbgen.VerificationProgressRow) string {
	var keys []work.Key
	_ = json.Unmarshal(walked.RemainingKeys, &keys) // what is not read is not told
	return fmt.Sprintf("after %d passes %d of %d rows remain, for which this holds: %s; %s; see who still writes such rows, then set it going again by retry",
		maxPasses, walked.RemainingRows, walked.WalkedRows, c.work.Remaining, work.DescribeKeys(keys, walked.RemainingRows))
}

// pieceSize is remembered for as long as the connection.
func (e *Executor) pieceSize(m dbgen.Migration) *work.PieceSize {
	size, known := e.walks[m.ID]
	if !known {
		most := work.DefaultBatchSize
		if m.BatchSize != nil {
			most = int(*m.BatchSize)
		}
		size = work.NewPieceSize(most)
		e.walks[m.ID] = size
	}
	return size
}
