package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// stallLimit is how many times in a row a job may lose its runner without progress before that is a failed attempt: a deploy takes a few runners
// away for no fault of the work's, a work that crashes its connection takes every one.
const stallLimit = 5

// errRunnerLost is reported when a migration has failed because a job of it lost its runner again and again.
var errRunnerLost = errors.New("the runner of a job is lost every time")

// errSlotNotHeld is reported when a slot's lock was not held as often as we took it: something in
// the session has given it back.
var errSlotNotHeld = errors.New("its lock was given back already")

// takeSlot takes the advisory lock of one of the fleet's slots, or keeps the one it has; [ErrLockInUse] when all are held by others.
func (e *Executor) takeSlot(ctx context.Context, slots int32) error {
	if e.slot > slots {
		if err := e.releaseSlot(ctx); err != nil {
			return err
		}
	}
	if e.slot != 0 {
		return nil
	}
	for slot := int32(1); slot <= slots; slot++ {
		locked, err := e.lockSlot(ctx, slot)
		if err != nil {
			return err
		}
		if locked {
			e.slot = slot
			_, err := e.recoverSlot(ctx, slot)
			return err
		}
	}
	return ErrLockInUse
}

// releaseSlot gives the slot back, if there is one, so that a runner without the works at hand never starves one that has them.
func (e *Executor) releaseSlot(ctx context.Context) error {
	if e.slot == 0 {
		return nil
	}
	slot, used := e.slot, e.usedSlot
	e.slot, e.usedSlot = 0, false
	if err := e.unlockSlot(ctx, slot); err != nil {
		return err
	}
	if !used {
		return nil // idle runners that wake each other would never sleep
	}
	err := e.queries.RunnersWakeOthers(ctx, e.conn, dbgen.RunnersWakeOthersParams{Works: e.offers, OnlyNames: e.config.Only})
	if err != nil {
		return fmt.Errorf("wake runners: %w", err)
	}
	return nil
}

// lockSlot tries the lock of a slot. Where that fails, one of the two holds may be ours without our
// knowing: the session ends, and gives it back.
func (e *Executor) lockSlot(ctx context.Context, slot int32) (locked bool, err error) {
	locked, err = e.queries.SlotTryLock(ctx, e.conn, slot)
	if err != nil {
		return false, lost(fmt.Errorf("lock slot %d: %w", slot, err))
	}
	return locked, nil
}

// unlockSlot gives the lock of a slot back, or ends the session, which gives it back as well:
// nobody else could use the slot else.
func (e *Executor) unlockSlot(ctx context.Context, slot int32) error {
	unlocked, err := e.queries.SlotUnlock(ctx, e.conn, slot)
	if err == nil && !unlocked {
		err = errSlotNotHeld
	}
	if err != nil {
		return lost(fmt.Errorf("unlock slot %d: %w", slot, err))
	}
	return nil
}

// recoverLostJobs puts back the jobs of runners that are gone: a job that runs in a slot whose lock is free has lost its runner. It looks at
// every slot with a running job, those above the present number too.
//
// It reports whether it found any: then what was looked up before is out of date.
func (e *Executor) recoverLostJobs(ctx context.Context, slots []int32) (found bool, err error) {
	if slices.Contains(slots, e.slot) {
		// Between two jobs nothing runs in our own slot: an ending that could not be recorded is lost like any other.
		if found, err = e.recoverSlot(ctx, e.slot); err != nil {
			return found, err
		}
	}
	if e.isBusy && time.Since(e.recoveredAt) < e.config.PollInterval {
		return found, nil // between two jobs of our own is no poll
	}
	e.recoveredAt = time.Now()
	for _, slot := range slots {
		if slot == e.slot {
			continue
		}
		locked, err := e.lockSlot(ctx, slot)
		if err != nil {
			return found, err
		}
		if !locked {
			continue
		}
		one, err := e.recoverSlot(ctx, slot)
		found = found || one
		if unlockErr := e.unlockSlot(ctx, slot); unlockErr != nil {
			err = errJoin(unlockErr, err)
		}
		if err != nil {
			return found, err
		}
	}
	return found, nil
}

// recoverSlot needs the slot's lock, held since an earlier statement: what it then sees as running
// has no runner. What cannot be put back now is left for the next poll, so that everything else
// goes on.
func (e *Executor) recoverSlot(ctx context.Context, slot int32) (found bool, err error) {
	jobs, err := e.queries.JobRecover(ctx, e.conn, dbgen.JobRecoverParams{
		Slot: slot, StallLimit: stallLimit, RetryBase: e.config.RetryBase, RetryLimit: e.config.RetryLimit, ChangedBy: e.identity,
	})
	if err != nil {
		return false, e.endure(ctx, err, "lost jobs could not be put back; the next poll tries again", "slot", slot)
	}
	for _, job := range jobs {
		log := e.log.With("migration", job.MigrationName, "job", job.ID)
		if job.IsLocked {
			if !e.locked[job.ID] { // said once
				log.Warn("job has lost its runner, but others hold its row or its migration's; each poll tries again", "slot", slot)
			}
			e.locked[job.ID] = true
			continue
		}
		delete(e.locked, job.ID)
		found = true
		log.Warn("job has lost its runner; it goes on from where it was", "slot", slot, "status", job.Status, "progress", job.ProgressKey)
		if err := e.endure(ctx, e.slowDown(ctx, job), "migration could not be held", "migration", job.MigrationName); err != nil {
			return true, err
		}
		if job.IsMigrationFailed {
			e.runner.noteExecuted(job.MigrationID)
			log.Error("migration failed: its job loses its runner every time",
				"code", dbgen.BBMMigrationFailureCodeMaxAttempts, "error", job.ExceptionMessage)
			e.config.Report(ctx, fmt.Errorf("%w: %s", errRunnerLost, job.ExceptionMessage), map[string]string{
				"migration": job.MigrationName, "work": job.WorkName, "job": fmt.Sprint(job.ID), "exception": "RunnerLost",
			})
		}
	}
	return found, nil
}

// slowDown holds a migration whose job has lost its runner again without progress, longer each time: its work may be what takes the connection, or the
// server, down. The first loss goes on at once. The job itself waits twice as long, so that one that always loses its runner leaves time to others; where
// they lose theirs too, the work is to blame and not a row, and all their losses count.
func (e *Executor) slowDown(ctx context.Context, job dbgen.JobRecoverRow) error {
	losses := job.Stalls
	if job.Status == dbgen.BBMJobStatusFailed {
		losses = stallLimit
	}
	if losses < 2 || job.IsMigrationFailed {
		return nil
	}
	const steepest = 10 // doublings: 10 s become hours
	wait := min(e.config.RetryBase<<min(int64(losses)-2+job.LossesOfOthers, steepest), e.config.RetryLimit)
	return e.hold(ctx, job.MigrationID, wait, fmt.Sprintf("job %d has lost its runner %d times in a row without progress", job.ID, losses))
}
