package runner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// maintenanceInterval is how often the log's partitions are looked after: months are made three ahead, so that a day would do.
const maintenanceInterval = time.Hour

// step is one cycle: it looks at the gates, recovers lost jobs, takes a slot, prepares what is new,
// and executes at most one job. It reports whether something was done: then look again at once.
func (e *Executor) step(ctx, workCtx context.Context) (isBusy bool, err error) {
	e.lockWait = e.config.LockTimeout // as each look pins it
	s, err := e.lookAround(ctx)
	if err != nil {
		return false, err
	}
	e.isWell = true
	if err := e.clear(ctx, s.left); err != nil {
		return false, err
	}
	if err := e.judge(s.server); err != nil {
		return false, err
	}
	if s.server.IsReadOnly {
		return false, errJoin(ErrReadOnly, e.releaseSlot(ctx))
	}
	recovered, err := e.recoverLostJobs(ctx, s.runningSlots)
	if err != nil {
		return false, err
	}
	e.maintain(ctx)
	if !s.fleet.ExecutionEnabled {
		e.runner.noteHalt(ErrExecutionDisabled, s.fleet.UpdatedAt, "by", s.fleet.ChangedBy, "why", orEmpty(s.fleet.Reason))
		return false, errJoin(ErrExecutionDisabled, e.releaseSlot(ctx))
	}
	e.runner.noteHalt(nil, s.fleet.UpdatedAt)
	if err := e.takeSlot(ctx, s.fleet.Slots); err != nil {
		return false, err
	}
	prepared, blocked, err := e.prepare(ctx, s.unprepared)
	if err != nil {
		return false, errJoin(err, e.releaseSlot(ctx))
	}
	job, claimed, err := e.claim(ctx, s.claimable)
	if err != nil {
		return false, errJoin(err, e.releaseSlot(ctx))
	}
	if job != nil {
		if err := e.waitForLocks(ctx, e.config.LockTimeout); err != nil {
			return false, err
		}
		e.usedSlot = true
		return true, e.execute(ctx, workCtx, job)
	}
	if recovered || prepared || claimed {
		return true, nil
	}
	if blocked != nil {
		if isBusy, err = e.prepareBlocked(ctx, *blocked); isBusy || err != nil {
			return isBusy, err
		}
	}
	return false, e.releaseSlot(ctx)
}

// maintain looks after the log's partitions, and forgets jobs past retention: a page in a turn,
// until none is left. A failure is no reason to stop: the default partition takes what has no
// month.
func (e *Executor) maintain(ctx context.Context) {
	if time.Since(e.maintainedAt) < maintenanceInterval {
		return
	}
	retention := int32(e.config.RetentionMonths)
	jobs, err := e.queries.JobForget(ctx, e.conn, retention)
	if err == nil && jobs > 0 {
		e.log.Info("jobs past retention forgotten", "jobs", jobs)
		return
	}
	e.maintainedAt = time.Now()
	if err != nil {
		e.log.Warn("jobs past retention could not be forgotten; trying again in an hour", "error", err)
	}
	for {
		month, err := e.queries.LogPartitionsMaintain(ctx, e.conn, retention)
		if errors.Is(err, pgx.ErrNoRows) {
			return
		}
		if err != nil {
			e.log.Warn("the log's partitions could not be looked after; trying again in an hour", "error", err)
			return
		}
		e.log.Info("log partition "+month.Action, "partition", month.PartitionName)
	}
}

// errJoin keeps the first error in front; a nil second one leaves it as it is.
func errJoin(first, second error) error {
	if second == nil {
		return first
	}
	return fmt.Errorf("%w; %w", first, second)
}
