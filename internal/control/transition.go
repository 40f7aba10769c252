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
	return c.actingOn(ctx, "pause", name, func(tx pgx.Tx) error {
		return queries.MigrationPause(ctx, tx, dbgen.MigrationPauseParams{Name: name, Reason: orNull(reason)})
	})
}

// Resume lets a paused migration go on, and lifts a hold of one that is not paused; jobs that wait for their next attempt go at once. acceptWork adopts the present version of the work, which
// must be in Works, when another is pinned. A migration that has ended or failed is an [*InputError].
func (c *Control) Resume(ctx context.Context, name, reason string, acceptWork bool) error {
	adoption, err := c.examine(ctx, name, acceptWork, paused, active, running)
	if err != nil {
		return err
	}
	return c.actingOn(ctx, "resume", name, func(tx pgx.Tx) error {
		if err := c.adopt(ctx, tx, name, adoption, reason, paused, active, running); err != nil {
			return err
		}
		return queries.MigrationResume(ctx, tx, dbgen.MigrationResumeParams{Name: name, Reason: adoption.reason(reason)})
	})
}

// Cancel ends the migration for good; what it has done stays done. A cancelled one stays so; a finished one is an [*InputError].
func (c *Control) Cancel(ctx context.Context, name, reason string) error {
	return c.actingOn(ctx, "cancel", name, func(tx pgx.Tx) error {
		return queries.MigrationCancel(ctx, tx, dbgen.MigrationCancelParams{Name: name, Reason: orNull(reason)})
	})
}

// Retry sets a failed migration going again, with the attempts of its waiting jobs at 0. acceptWork is as for [Control.Resume]. A migration
// that has not failed is an [*InputError].
func (c *Control) Retry(ctx context.Context, name, reason string, acceptWork bool) error {
	adoption, err := c.examine(ctx, name, acceptWork, failed)
	if err != nil {
		return err
	}
	return c.actingOn(ctx, "retry", name, func(tx pgx.Tx) error {
		if err := c.adopt(ctx, tx, name, adoption, reason, failed); err != nil {
			return err
		}
		return queries.MigrationRetry(ctx, tx, dbgen.MigrationRetryParams{Name: name, Reason: adoption.reason(reason)})
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
