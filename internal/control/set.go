package control

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// SetOptions is tuning that may change while a migration runs; nil leaves a setting as it is.
type SetOptions struct {
	SubBatchSize *int           // rows of one transaction, 1 to the batch size; fixed from now on
	SubBatchAuto bool           // let the runner choose the sub-batch size
	Pause        *time.Duration // between sub-batches, 0 or more
	Interval     *time.Duration // between the starts of two jobs, 0 or more
	Parallelism  *int           // jobs at once, 1 or more
	MaxAttempts  *int           // failures of one job that fail the migration, 1 or more
	// AsynchronousCommit is whether the commits of sub-batches may return before they are on disk.
	AsynchronousCommit *bool
	OnRowError         *string // fail or quarantine: what happens to a row that fails alone on its data
	QuarantineLimit    *int    // rows that may be left out, 1 to 10,000
}

// Set tunes a migration. A running job reads the sub-batch size and the pause again after each sub-batch. Values out of range, and a migration
// that has ended, are [*InputError]s.
func (c *Control) Set(ctx context.Context, name, reason string, o SetOptions) error {
	if o == (SetOptions{}) {
		return inputf("nothing to set; give sub_batch_size, pause, interval, parallelism, max_attempts, asynchronous_commit, on_row_error or quarantine_limit")
	}
	if o.SubBatchAuto && o.SubBatchSize != nil {
		return inputf("the sub-batch size is either a number or auto")
	}
	if err := (tuning{nil, o.SubBatchSize, o.Interval, o.Pause, o.MaxAttempts, o.Parallelism}).check(); err != nil {
		return err
	}
	if err := checkQuarantine(o.OnRowError, o.QuarantineLimit); err != nil {
		return err
	}
	return c.actingOn(ctx, "tune", name, func(tx pgx.Tx) error {
		for _, setting := range o.settings() {
			err := queries.MigrationSet(ctx, tx, dbgen.MigrationSetParams{Name: name, Setting: setting[0], Value: setting[1], Reason: orNull(reason)})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// settings are those that are given, each with its value as bbm.set takes it.
func (o SetOptions) settings() (given [][2]string) {
	add := func(setting string, value any) { given = append(given, [2]string{setting, fmt.Sprint(value)}) }
	for _, number := range []struct {
		setting string
		value   *int
	}{
		{"sub_batch_size", o.SubBatchSize}, {"parallelism", o.Parallelism},
		{"max_attempts", o.MaxAttempts}, {"quarantine_limit", o.QuarantineLimit},
	} {
		if number.value != nil {
			add(number.setting, *number.value)
		}
	}
	if o.SubBatchAuto {
		add("sub_batch_size", "auto")
	}
	for _, length := range []struct {
		setting string
		value   *time.Duration
	}{{"pause", o.Pause}, {"interval", o.Interval}} {
		if length.value != nil {
			// PostgreSQL 14 takes no number of microseconds above some half an hour.
			add(length.setting, fmt.Sprintf("%.6f seconds", length.value.Seconds()))
		}
	}
	if o.AsynchronousCommit != nil {
		add("asynchronous_commit", *o.AsynchronousCommit)
	}
	if o.OnRowError != nil {
		add("on_row_error", *o.OnRowError)
	}
	return given
}

// tuning is what an enqueue or a set may give; nil is not given.
type tuning struct {
	batchSize, subBatchSize *int
	interval, pause         *time.Duration
	maxAttempts, parallel   *int
}

// check refuses what no column could hold or no runner could do.
func (t tuning) check() error {
	for _, number := range []struct {
		name  string
		value *int
	}{
		{"batch size", t.batchSize}, {"sub-batch size", t.subBatchSize},
		{"number of attempts", t.maxAttempts}, {"parallelism", t.parallel},
	} {
		if number.value != nil && (*number.value < 1 || *number.value > math.MaxInt32) {
			return inputf("a %s of %d is not possible; give 1 to %d", number.name, *number.value, math.MaxInt32)
		}
	}
	for _, length := range []struct {
		name  string
		value *time.Duration
	}{{"interval", t.interval}, {"pause", t.pause}} {
		if length.value != nil && *length.value < 0 {
			return inputf("the %s of %s is negative; give 0 or more, as in 250ms or 2h", length.name, *length.value)
		}
		if length.value != nil && *length.value > maxLength {
			return inputf("the %s of %s is too long; give at most %s", length.name, *length.value, maxLength)
		}
	}
	return nil
}

// maxLength is the CHECK constraints' limit for interval and pause: a year.
const maxLength = 365 * 24 * time.Hour

// maxQuarantine is the CHECK constraint's limit for quarantine_limit: each row that fails is searched for, and each is to be looked at by somebody.
const maxQuarantine = 10_000

// checkQuarantine refuses what is no policy, or no limit, for rows that fail.
func checkQuarantine(onRowError *string, limit *int) error {
	if onRowError != nil && !dbgen.RowErrorPolicy(*onRowError).Valid() {
		return inputf("what happens on a row's error is %q; give fail or quarantine", *onRowError)
	}
	if limit != nil && (*limit < 1 || *limit > maxQuarantine) {
		return inputf("a quarantine limit of %d is not possible; give 1 to %d", *limit, maxQuarantine)
	}
	return nil
}

// int4 converts a number that tuning.check has let pass.
func int4(value *int) *int32 {
	if value == nil {
		return nil
	}
	number := int32(*value)
	return &number
}

// value is what a pointer points to; zero for none.
func value[T any](pointer *T) (v T) {
	if pointer != nil {
		v = *pointer
	}
	return v
}
