package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

const (
	// resourcesHold is how long a migration waits when the server lacks disk, memory or connections, or is read-only.
	resourcesHold = time.Minute
	// cancelledHold is how long a migration waits when someone has cancelled its statement: time for
	// them to pause it. It doubles while they go on.
	cancelledHold = 15 * time.Second
	// ownStallLimit is how many times in a row a job may run out of memory, exceed a configured limit,
	// or raise what speaks of the server's state, without progress before that is a failed attempt:
	// unlike a full disk, that may be the job's own doing.
	ownStallLimit = 3
	// cancelStallLimit is the same for statements that the server cancels: more than two hours of
	// holds, so that a person who cancels is no failure, and a work that cancels itself comes to an
	// end.
	cancelStallLimit = 20
)

// record writes how a job has ended that has not succeeded. It does not depend on the runner's context: an end that has happened must be told.
func (e *Executor) record(job *claimedJob, end outcome) error {
	ctx, cancel := context.WithTimeout(context.Background(), recordTimeout)
	defer cancel()
	err := e.recordOnce(ctx, job, end)
	if classify(err, failure{}) == kindContention {
		// Somebody holds the migration's row. The end of the job alone needs none of it.
		class, message := exception(cmp.Or(end.err, errors.New(end.reason)))
		err = e.release(ctx, job, class, message)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		err = errFenced
	}
	if err != nil {
		return lost(fmt.Errorf("record end of job %d: %w", job.ID, err))
	}
	return nil
}

func (e *Executor) recordOnce(ctx context.Context, job *claimedJob, end outcome) error {
	switch end.kind {
	case kindGivenBack:
		return e.release(ctx, job, "Interrupted", end.reason)
	case kindBlocked:
		if err := e.hold(ctx, job.migration.ID, setAsideHold, end.reason); err != nil {
			return err
		}
		class, _ := exception(end.err)
		return e.release(ctx, job, class, end.reason)
	case kindCancelled, kindResources, kindEndpoint:
		limit := stallLimitOf(end)
		if limit == 0 {
			return e.releaseAndHold(ctx, job, end.err, resourcesHold)
		}
		if job.Stalls++; job.Stalls < limit {
			length := e.stallHold(end.kind, job.Stalls)
			if end.kind != kindCancelled || job.Stalls > 1 {
				job.retryIn = 2 * length // other jobs go first
			}
			return e.releaseAndHold(ctx, job, end.err, length)
		}
		end.note = fmt.Sprintf("%d times in a row without progress", limit)
	}
	return e.fail(ctx, job, end)
}

// stallHold is how long a migration is held for such an end, the stalls-th of its job in a row.
func (e *Executor) stallHold(k kind, stalls int32) time.Duration {
	if k == kindCancelled {
		return min(cancelledHold<<(stalls-1), max(cancelledHold, e.config.RetryLimit))
	}
	return resourcesHold
}

// stallLimitOf is how many times in a row without progress an end that holds the migration is no failed attempt; 0: always.
func stallLimitOf(end outcome) int32 {
	var pg *pgconn.PgError
	switch {
	case end.kind == kindEndpoint:
		return stallLimit
	case errors.As(end.err, &pg) && (pg.Code == "53200" || pg.Code == "53400"): // out_of_memory, configuration_limit_exceeded
		return ownStallLimit
	case isProvoked(end.err):
		return ownStallLimit
	case end.kind == kindCancelled:
		return cancelStallLimit
	}
	return 0
}

// recordEnded records a success that no further look will record, since the runner stops.
func (e *Executor) recordEnded() {
	if e.ended == nil || e.conn.IsClosed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), recordTimeout)
	defer cancel()
	row, err := e.queries.JobSucceed(ctx, e.conn, e.ended.succeedParams())
	if err != nil {
		e.ended.log.Error("the success of a job could not be recorded; it will be found done", "error", err)
		return
	}
	e.ended.logSuccess(row)
	e.ended = nil
}

func (job *claimedJob) succeedParams() dbgen.JobSucceedParams {
	return dbgen.JobSucceedParams{JobID: job.ID, Claims: job.Claims, LearnedSubBatchSize: job.learned}
}

func (job *claimedJob) logSuccess(row dbgen.JobSucceedRow) {
	job.log.Info("job succeeded", "processed_rows", row.ProcessedRows, "affected_rows", row.AffectedRows)
}

func (e *Executor) fail(ctx context.Context, job *claimedJob, end outcome) error {
	class, message := exception(end.err)
	if end.note != "" {
		message = end.note + "; " + message
	}
	failed, err := e.queries.JobFail(ctx, e.conn, dbgen.JobFailParams{
		JobID: job.ID, Claims: job.Claims, ExceptionClass: class, ExceptionMessage: message,
		ExceptionKey: end.row, ExceptionConstraint: constraintOf(end.err), ExceptionPlace: end.place(job.migration.CursorColumns),
		IsFatal: end.kind == kindDefinition, RetryBase: e.config.RetryBase, RetryLimit: e.config.RetryLimit, ChangedBy: e.identity,
	})
	if err != nil {
		return err
	}
	delete(e.targets, job.migration.ID) // what failed may be what we remember of the table
	job.log.Error("job failed", "attempts", failed.Attempts, "exception", class, "error", message, "key", end.row)
	if failed.FailureErrorCode != nil {
		job.log.Error("migration failed", "code", *failed.FailureErrorCode, "error", *failed.FailureMessage)
		e.config.Report(ctx, end.err, map[string]string{
			"migration": job.migration.Name, "work": job.work.Name, "job": fmt.Sprint(job.ID), "exception": class,
		})
	}
	return nil
}

func (e *Executor) release(ctx context.Context, job *claimedJob, class, message string) error {
	_, err := e.queries.JobRelease(ctx, e.conn, dbgen.JobReleaseParams{
		JobID: job.ID, Claims: job.Claims, ExceptionClass: class, ExceptionMessage: message, Stalls: job.Stalls, RetryIn: job.retryIn,
	})
	if err != nil {
		return err
	}
	job.log.Info("job given back", "exception", class, "reason", message, "progress", job.ProgressKey)
	return nil
}

func (e *Executor) releaseAndHold(ctx context.Context, job *claimedJob, cause error, length time.Duration) error {
	class, message := exception(cause)
	if err := e.hold(ctx, job.migration.ID, length, class+": "+message); err != nil {
		return err
	}
	return e.release(ctx, job, class, message)
}
