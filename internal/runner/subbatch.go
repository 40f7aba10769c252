package runner

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/session"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// beginWork gives a Go work a pgx.Tx of its own inside the transaction that the fence has begun.
const beginWork = "SAVEPOINT bbm_work"

// genericPlans takes back what the fence has set for the work: our own statements keep their plans.
const genericPlans = "SET LOCAL plan_cache_mode = force_generic_plan"

// errFenced is returned when the job is no longer ours, or does not stand where we think.
var errFenced = errors.New("fenced off: the job is no longer ours")

// subBatch changes the rows of one range and moves the progress, in one transaction and two round trips: first BEGIN, the fence and the work; then,
// once the fence has been read, the progress and COMMIT. A Go work runs between the two.
//
// Its commit may be asynchronous, and only its: after a crash data and progress are lost together, and done again together.
func (e *Executor) subBatch(ctx context.Context, job *claimedJob, end endpoint) (back dbgen.JobProgressRow, err error) {
	r := work.Range{After: job.ProgressKey, Until: end.key}
	transactionID, affected, err := e.change(ctx, job, r)
	if err != nil {
		return back, err
	}
	if job.work.Do != nil {
		if affected, err = e.call(ctx, job, r); err != nil {
			return back, err
		}
		if e.conn.PgConn().TxStatus() == 'I' {
			return back, errTransactionEnded
		}
	}
	if err := e.proveRow(ctx, job, end.key); err != nil {
		return back, err
	}
	back, changed, err := e.commit(ctx, dbgen.JobProgressParams{
		JobID: job.ID, Claims: job.Claims, MigrationID: job.migration.ID, Slot: e.slot,
		UntilKey: end.key, ProcessedRows: end.rows, AffectedRows: affected, TransactionID: transactionID,
		MayCommitAsynchronously: !e.config.SynchronousCommit,
	})
	switch {
	case err != nil:
		return back, err
	case changed.err != nil, len(changed.names) > 0:
		return back, e.restoreSession(job, changed)
	}
	return back, nil
}

// change is the first round trip: a stop may cancel it, since it commits nothing.
func (e *Executor) change(ctx context.Context, job *claimedJob, r work.Range) (transactionID string, affected int64, err error) {
	fence := dbgen.JobFenceParams{JobID: job.ID, Claims: job.Claims, ProgressKey: job.ProgressKey, LockTimeout: session.Milliseconds(e.config.LockTimeout)}
	var p pipeline
	p.batch.Queue(beginReadCommitted)
	_, _ = e.queries.JobFence(ctx, p.queue(), fence)
	if job.work.Do == nil {
		sql, values, err := job.statements.Work(r, job.arguments)
		if err != nil {
			return "", 0, err
		}
		p.batch.Queue(job.statements.Label()+sql, values...)
	}
	p.send(session.Cancellable(ctx), e.conn)
	defer func() {
		if closeErr := p.close(); err == nil {
			err = closeErr
		}
	}()

	if _, err := p.results.Exec(); err != nil {
		if job.work.Do == nil {
			// BEGIN itself does not fail: what does is the preparation, before it, of the work's statement.
			return "", 0, &workError{err: err}
		}
		return "", 0, fmt.Errorf("begin: %w", err)
	}
	fenced, err := e.queries.JobFence(ctx, p.replay(), fence)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", 0, errFenced
	}
	if isReadOnly(err) {
		return "", 0, errJoin(ErrReadOnly, err)
	}
	if err != nil {
		return "", 0, fmt.Errorf("fence: %w", err)
	}
	if job.work.Do == nil {
		tag, err := p.results.Exec()
		if err != nil {
			return "", 0, &workError{err: err}
		}
		affected = tag.RowsAffected()
	}
	return fenced.TransactionID, affected, nil
}

// call runs a Go work between the two round trips. A panic is recovered: its stack goes to the log, and the attempt fails.
func (e *Executor) call(ctx context.Context, job *claimedJob, r work.Range) (affected int64, err error) {
	ctx = session.Cancellable(ctx)
	tx, err := e.conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: beginWork})
	if err != nil {
		return 0, fmt.Errorf("begin work: %w", err)
	}
	defer func() {
		if v := recover(); v != nil {
			job.log.Error("work panicked", "work", job.work.Name, "panic", v, "stack", string(debug.Stack()))
			err = &panicError{value: v}
			e.config.Report(ctx, err, map[string]string{"migration": job.migration.Name, "work": job.work.Name})
		}
	}()
	shared := &workTx{Tx: tx}
	defer func() {
		if left := shared.closeLeft(); left && err == nil {
			err = errRowsLeftOpen
		}
		if err != nil {
			err = &workError{err, e.conn.PgConn().TxStatus() == 'T'}
		}
	}()
	return job.work.Do(ctx, shared, job.statements.Batch(job.migration.Name, r, job.arguments, int(job.Attempts)+1))
}

// commit is the second round trip. COMMIT travels with the progress: when the fence does not hold,
// the server raises and ignores the COMMIT. Behind it, when what was set for the transaction alone
// is gone, comes the look at the session's settings. It is never cancelled: a standby may be waited
// for.
func (e *Executor) commit(ctx context.Context, progress dbgen.JobProgressParams) (back dbgen.JobProgressRow, changed changes, err error) {
	var p pipeline
	before := append(slices.Clone(session.OwnRole), genericPlans)
	for _, statement := range before {
		p.batch.Queue(statement)
	}
	_, _ = e.queries.JobProgress(ctx, p.queue(), progress)
	p.batch.Queue("COMMIT")
	_, _ = e.queries.SessionListChanged(ctx, p.queue(), e.pinned.settings)
	p.send(ctx, e.conn)
	isCommitted := false
	defer func() {
		if closeErr := p.close(); err == nil && !isCommitted {
			err = closeErr
		}
	}()

	for range before {
		if _, err = p.results.Exec(); err != nil {
			return back, changed, fmt.Errorf("set up the progress: %w", err)
		}
	}
	if back, err = e.queries.JobProgress(ctx, p.replay(), progress); err != nil {
		return back, changed, fmt.Errorf("progress: %w", err)
	}
	if _, err = p.results.Exec(); err != nil {
		return back, changed, fmt.Errorf("commit: %w", &workError{err: err}) // a deferred constraint or trigger
	}
	isCommitted = true // whatever comes
	changed.names, changed.err = e.queries.SessionListChanged(ctx, p.replay(), e.pinned.settings)
	return back, changed, nil
}

// panicError is a panic of a Go work.
type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }
