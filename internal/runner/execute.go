package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// lossWaitLimit bounds the wait after a loss to others, as a multiple of the first: 5 s where that
// is 100 ms.
const lossWaitLimit = 50

// execute runs a claimed job to its end, and records the end. The error that it returns is about the runner, never about the work.
func (e *Executor) execute(ctx, workCtx context.Context, job *claimedJob) error {
	e.runner.noteExecuted(job.migration.ID)
	started := time.Now()
	job.log = e.log.With("migration", job.migration.Name, "job", job.ID)
	job.log.Debug("job started", "after", job.AfterKey, "until", job.UntilKey, "attempt", job.Attempts+1, "slot", e.slot)
	end := e.work(ctx, workCtx, job)
	if err := e.rollback(); err != nil {
		return err
	}
	if end.kind == kindFenced && job.work.Do != nil {
		// Where the job is still ours, only the work can have done it.
		err := e.record(job, outcome{kind: kindDefinition, err: errTransactionEnded})
		return errJoin(lost(fmt.Errorf("job %d: %w", job.ID, end.err)), err)
	}
	// The loss of a job is no end that we may record.
	if end.kind == kindConnection || end.kind == kindFenced {
		return lost(fmt.Errorf("job %d: %w", job.ID, end.err))
	}
	job.log = job.log.With("duration", time.Since(started).Round(time.Millisecond))
	if end.kind == kindDone {
		e.ended = job // recorded with the next look, in one round trip
		return nil
	}
	return e.record(job, end)
}

// outcome is how the execution of a job has ended.
type outcome struct {
	kind   kind
	err    error    // what ended it, but for kindDone and kindGivenBack
	reason string   // for kindGivenBack
	row    work.Key // the one row on which it failed; nil: not known
	note   string   // what to know before the error's own message
}

// stopped is the reason when a signal ends the runner.
const stopped = "the runner was stopped"

func givenBack(reason string) outcome { return outcome{kind: kindGivenBack, reason: reason} }

// work changes sub-batch after sub-batch until the job is done, somebody wants it to stop, or an error ends the attempt.
func (e *Executor) work(ctx, workCtx context.Context, job *claimedJob) outcome {
	size := newSizer(job.migration)
	size.climb = e.climbOf(job)
	defer func() {
		if !job.IsSingleRow { // which says nothing of others
			job.learned = size.learned()
		}
	}()
	for range job.Stalls {
		size.lose() // what interrupted it may be too much at once
		job.ends = endpoints{}
	}
	var inARow losses
	suspects := suspectsOf(job)
	for !sameKey(job.ProgressKey, job.UntilKey) {
		limit := suspects.limit(size.rows())
		isTry := suspects.rows > 0
		if isTry {
			job.ends = endpoints{} // they are of another size
		}
		began := time.Now()
		back, end, err := e.nextSubBatch(workCtx, job, limit, isTry)
		if errors.Is(err, ErrReadOnly) {
			reason, err := e.resumeWritable(ctx, job)
			if err != nil || reason != "" {
				return outcomeOf(reason, err)
			}
			job.ends = endpoints{}
			continue
		}
		if err != nil {
			kind := classify(err, failure{
				connectionLost: e.conn.IsClosed(), cancelledByUs: workCtx.Err() != nil,
				timedOut: time.Since(began) >= e.config.StatementTimeout, alone: limit == 1 || job.IsSingleRow,
			})
			if kind == kindData {
				before := job.ProgressKey
				if over := e.narrow(ctx, job, &suspects, end, limit, err); over != nil {
					return *over
				}
				if !sameKey(before, job.ProgressKey) { // the row is left out
					inARow = losses{}
				}
				job.ends = endpoints{}
				continue
			}
			if !kind.isLoss() {
				return ending(kind, err, rowOf(job, end, limit))
			}
			if over := e.lose(ctx, job, &inARow, kind, err, rowOf(job, end, limit)); over != nil {
				return *over
			}
			size.lose()
			job.ends = endpoints{}
			continue
		}
		inARow = losses{}
		job.ProgressKey, job.Stalls = end.key, 0
		if isTry {
			suspects.clear(end.rows)
			job.ends = endpoints{}
		}
		if size.retune(back.SubBatchSize) || !isTry && size.observe(end.rows, time.Since(began)) {
			job.ends = endpoints{} // they are of another size
		}
		if sameKey(job.ProgressKey, job.UntilKey) {
			break
		}
		if reason := whyStop(ctx, back.ExecutionEnabled, back.Status, back.IsOnHold); reason != "" {
			return givenBack(reason)
		}
		if reason, err := e.pause(ctx, job, back.Pause); err != nil || reason != "" {
			return outcomeOf(reason, err)
		}
	}
	return outcome{kind: kindDone}
}

// climbOf is what is known of the sizes of the migration's sub-batches: nothing that concerns the
// job of a single row, which has no size.
func (e *Executor) climbOf(job *claimedJob) *climb {
	if job.IsSingleRow {
		return &climb{}
	}
	if e.climbs[job.migration.ID] == nil {
		e.climbs[job.migration.ID] = &climb{}
	}
	return e.climbs[job.migration.ID]
}

// nextSubBatch runs the next sub-batch. It looks for its end where that is not known, and for those of the sub-batches behind it, unless only one is to be
// of that size.
func (e *Executor) nextSubBatch(
	ctx context.Context, job *claimedJob, limit int, isOnlyOne bool,
) (back dbgen.JobProgressRow, end endpoint, err error) {
	if !job.ends.known() {
		total := max(limit, min(int(*job.migration.BatchSize), limit*mostPieces))
		if isOnlyOne {
			total = limit
		}
		rest := work.Range{After: job.ProgressKey, Until: job.UntilKey}
		if job.ends, err = e.boundary(ctx, job.statements, rest, limit, total); err != nil {
			return back, end, err
		}
	}
	end = job.ends.next(limit)
	back, err = e.subBatch(ctx, job, end)
	return back, end, err
}

// waitAfterLoss backs off after a sub-batch that lost to others, with no transaction open, and tells why not to go on, if so.
func (e *Executor) waitAfterLoss(ctx context.Context, job *claimedJob, loss error, losses int) (reason string, err error) {
	wait := jitter(min(e.config.LossBase<<max(0, losses-1), lossWaitLimit*e.config.LossBase, e.config.IdleTimeout/idleShare))
	job.log.Warn("sub-batch lost to others; it is tried again, smaller", "error", loss, "in", wait)
	sleep(ctx, wait)
	reason, _, err = e.lookAgain(ctx, job)
	return reason, err
}

// pause keeps the rest that a migration asks for between two sub-batches, and looks again as often as an idle runner does: a pause of an hour can be
// cut short by set, and ended by pause, cancel and disable.
func (e *Executor) pause(ctx context.Context, job *claimedJob, length time.Duration) (reason string, err error) {
	for began := time.Now(); time.Since(began) < length; {
		sleep(ctx, min(length-time.Since(began), e.config.PollInterval, e.config.IdleTimeout/idleShare))
		if reason, length, err = e.lookAgain(ctx, job); err != nil || reason != "" {
			return reason, err
		}
	}
	return "", nil
}

// lookAgain asks between two sub-batches whether to go on, and why not, and how long a pause is asked for.
func (e *Executor) lookAgain(ctx context.Context, job *claimedJob) (reason string, pause time.Duration, err error) {
	check, err := e.queries.JobCheck(ctx, e.conn, dbgen.JobCheckParams{JobID: job.ID, Claims: job.Claims})
	switch {
	case ctx.Err() != nil && !e.conn.IsClosed():
		return stopped, 0, nil
	case errors.Is(err, pgx.ErrNoRows):
		return "", 0, errFenced
	case err != nil:
		return "", 0, fmt.Errorf("look at job: %w", err)
	}
	return whyStop(ctx, check.ExecutionEnabled, check.Status, check.IsOnHold), check.Pause, nil
}

// whyStop says why a job must be given back between two sub-batches; "" to go on.
func whyStop(ctx context.Context, enabled bool, status dbgen.MigrationStatus, onHold bool) string {
	switch {
	case ctx.Err() != nil:
		return stopped
	case !enabled:
		return "the fleet was disabled"
	case status == dbgen.BBMMigrationStatusActive:
		return "the migration was paused, and resumed meanwhile"
	case status != dbgen.BBMMigrationStatusRunning:
		return fmt.Sprintf("the migration is %s", status)
	case onHold:
		return "the migration was put on hold"
	}
	return ""
}

// outcomeOf is the end of a job between two sub-batches.
func outcomeOf(reason string, err error) outcome {
	if err != nil {
		return ending(kindConnection, err, nil)
	}
	return givenBack(reason)
}

func ending(kind kind, err error, row work.Key) outcome {
	if kind == kindGivenBack {
		return givenBack("the runner was stopped; the sub-batch in progress was rolled back")
	}
	return outcome{kind: kind, err: err, row: row}
}

// rollback ends what transaction is open. It does not depend on the caller's context: a stopped runner must give its job back.
func (e *Executor) rollback() error {
	if e.conn.IsClosed() {
		return nil
	}
	if e.conn.PgConn().TxStatus() == 'I' {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), recordTimeout)
	defer cancel()
	if _, err := e.conn.Exec(ctx, "ROLLBACK"); err != nil {
		return lost(fmt.Errorf("roll back: %w", err))
	}
	return nil
}

// sameKey compares keys as texts, which tells whether they are the very same; their order only the server knows.
func sameKey(a, b []string) bool {
	return (a == nil) == (b == nil) && slices.Equal(a, b)
}
