package control

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

const (
	paused    = dbgen.BBMMigrationStatusPaused
	active    = dbgen.BBMMigrationStatusActive
	running   = dbgen.BBMMigrationStatusRunning
	finished  = dbgen.BBMMigrationStatusFinished
	failed    = dbgen.BBMMigrationStatusFailed
	cancelled = dbgen.BBMMigrationStatusCancelled
)

// Pause keeps jobs of the migration from being started, and gives a running one back after its sub-batch. A paused migration stays so; one
// that has ended or failed is an [*InputError].
func (c *Control) Pause(ctx context.Context, name, reason string) error {
	return c.locked(ctx, name, func(tx pgx.Tx, m dbgen.Migration) error {
		switch m.Status {
		case paused:
			return nil
		case active, running:
			_, err := queries.MigrationPause(ctx, tx, dbgen.MigrationPauseParams{
				MigrationID: m.ID, ChangedBy: c.ChangedBy, Reason: orNull(reason),
			})
			return wrap(err, "pause", name)
		case failed:
			return inputf("migration %q has failed and does not run; nothing to pause (see: bbm-runner retry %s)", name, name)
		}
		return inputf("migration %q is %s; nothing to pause", name, m.Status)
	})
}

// Resume lets a paused migration go on, and lifts a hold of one that is not paused; jobs that wait for their next attempt go at once. acceptWork adopts the present version of the work, which
// must be in Works, when another is pinned. A migration that has ended or failed is an [*InputError].
func (c *Control) Resume(ctx context.Context, name, reason string, acceptWork bool) error {
	adoption, err := c.examine(ctx, name, acceptWork, paused, active, running)
	if err != nil {
		return err
	}
	return c.locked(ctx, name, func(tx pgx.Tx, m dbgen.Migration) error {
		switch m.Status {
		case paused, active, running:
		case failed:
			return inputf("migration %q has failed; set it going again with: bbm-runner retry %s", name, name)
		default:
			return inputf("migration %q is %s; enqueue it under another name to run it again", name, m.Status)
		}
		if err := adoption.check(ctx, tx, m); err != nil {
			return err
		}
		if err := queries.MigrationMakeDue(ctx, tx, m.ID); err != nil {
			return wrap(err, "make the jobs due of", name)
		}
		if m.Status != paused && adoption == nil {
			_, err := queries.MigrationUnhold(ctx, tx, m.ID)
			return wrap(err, "lift the hold of", name)
		}
		_, err := queries.MigrationResume(ctx, tx, dbgen.MigrationResumeParams{
			MigrationID: m.ID, WorkChecksum: adoption.checksum(), RemainingPredicate: adoption.predicate(), RowSet: adoption.rowSet(),
			ChangedBy: c.ChangedBy, Reason: adoption.reason(reason),
		})
		return wrap(err, "resume", name)
	})
}

// Cancel ends the migration for good; what it has done stays done. A cancelled one stays so; a finished one is an [*InputError].
func (c *Control) Cancel(ctx context.Context, name, reason string) error {
	return c.locked(ctx, name, func(tx pgx.Tx, m dbgen.Migration) error {
		switch m.Status {
		case cancelled:
			return nil
		case finished:
			return inputf("migration %q is finished; nothing to cancel", name)
		}
		_, err := queries.MigrationCancel(ctx, tx, dbgen.MigrationCancelParams{
			MigrationID: m.ID, ChangedBy: c.ChangedBy, Reason: orNull(reason),
		})
		return wrap(err, "cancel", name)
	})
}

// Retry sets a failed migration going again, with the attempts of its waiting jobs at 0. acceptWork is as for [Control.Resume]. A migration
// that has not failed is an [*InputError].
func (c *Control) Retry(ctx context.Context, name, reason string, acceptWork bool) error {
	adoption, err := c.examine(ctx, name, acceptWork, failed)
	if err != nil {
		return err
	}
	return c.locked(ctx, name, func(tx pgx.Tx, m dbgen.Migration) error {
		switch m.Status {
		case failed:
		case paused:
			return inputf("migration %q is paused; let it go on with: bbm-runner resume %s", name, name)
		case active, running:
			return inputf("migration %q is %s and has not failed; a failed job is tried again by itself", name, m.Status)
		default:
			return inputf("migration %q is %s; enqueue it under another name to run it again", name, m.Status)
		}
		if err := adoption.check(ctx, tx, m); err != nil {
			return err
		}
		_, err := queries.MigrationRetry(ctx, tx, dbgen.MigrationRetryParams{
			MigrationID: m.ID, WorkChecksum: adoption.checksum(), RemainingPredicate: adoption.predicate(), RowSet: adoption.rowSet(),
			ChangedBy: c.ChangedBy, Reason: adoption.reason(reason),
		})
		return wrap(err, "retry", name)
	})
}

// wrap says what was attempted.
func wrap(err error, attempted, name string) error {
	if err != nil {
		return fmt.Errorf("%s migration %q: %w", attempted, name, err)
	}
	return nil
}

// orNull makes an empty reason none.
func orNull(reason string) *string {
	if reason == "" {
		return nil
	}
	return &reason
}
