package runner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/bbm-runner/bbm-runner/internal/session"
)

// ErrReadOnly is returned by a run until idle when the database takes no changes.
// default_transaction_read_only is a brake that belongs to whoever administers the database: not
// even what we note of our own is written under it.
var ErrReadOnly = errors.New("the database is read-only (default_transaction_read_only is on)")

// What a runner announces to `status` by RunnerAnnounce: that its parameter is off or on, and that
// its session is read-only.
const (
	announcedOff int32 = iota
	announcedOn
	announcedReadOnly
)

// isReadOnly tells whether a statement of ours was refused since it writes. A work may meet
// read-only servers of its own.
func isReadOnly(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "25006" && !isOfWork(err)
}

// awaitWritable keeps an executor, with the slot and the job that it has, until its session may
// write, and tells `status` why. It returns at once where it may. A setting of the database or the
// role is for later sessions: so it looks whether a new one may write as well, and then returns
// [errConnectionLost].
func (e *Executor) awaitWritable(ctx context.Context) error {
	isElsewhere := false // a new session may write
	for isAnnounced := false; ctx.Err() == nil; isAnnounced = true {
		here, err := e.queries.ServerCheck(ctx, e.conn)
		switch {
		case err != nil:
			return lost(fmt.Errorf("check server: %w", err))
		case !here.IsReadOnly && isAnnounced:
			_, err := e.queries.RunnerRetract(ctx, e.conn, announcedReadOnly)
			if err != nil {
				return lost(fmt.Errorf("retract announcement: %w", err))
			}
			return nil
		case !here.IsReadOnly:
			return nil
		case isElsewhere:
			return lost(errors.New("the database may be written again, in a new session"))
		case !isAnnounced:
			e.runner.noteHalt(ErrReadOnly, time.Time{})
			if err := e.queries.RunnerAnnounce(ctx, e.conn, announcedReadOnly); err != nil {
				return lost(fmt.Errorf("announce: %w", err))
			}
		}
		if isElsewhere = e.mayWriteAnew(ctx); isElsewhere {
			continue // this one may by now, too
		}
		if _, err := e.rest(ctx, e.config.PollInterval, nil); err != nil {
			return err
		}
	}
	return nil
}

// resumeWritable waits with a job until its next sub-batch may write, and tells why not to go on,
// if so.
func (e *Executor) resumeWritable(ctx context.Context, job *claimedJob) (reason string, err error) {
	if err := e.rollback(); err != nil {
		return "", err
	}
	if err := e.awaitWritable(ctx); err != nil {
		return "", err
	}
	if ctx.Err() != nil {
		job.log.Warn("the job cannot be given back while the database is read-only; the next runner finds it as lost", "progress", job.ProgressKey)
	}
	reason, _, err = e.lookAgain(ctx, job)
	return reason, err
}

// mayWriteAnew tells whether a new session may write; a failure to connect is none of this one's
// business.
func (e *Executor) mayWriteAnew(ctx context.Context) bool {
	conn, err := session.Connect(ctx, e.runner.connConfig, e.sessionConfig())
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	there, err := e.queries.ServerCheck(ctx, conn)
	return err == nil && !there.IsReadOnly
}

// noteHalt logs why nothing is executed, and that it is again, where the reason is nil: once for
// all executors. What one of them has read of the fleet's settings may be older than what another
// has: asOf is when those were written; zero where the reason is not among them.
func (r *Runner) noteHalt(reason error, asOf time.Time, details ...any) {
	text := ""
	if reason != nil {
		text = reason.Error()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !asOf.IsZero() {
		if asOf.Before(r.haltAsOf) {
			return
		}
		r.haltAsOf = asOf
	}
	before := r.halted
	r.halted = text
	switch {
	case text == before:
	case reason != nil:
		r.config.Logger.Warn("execution waits", append([]any{"reason", reason}, details...)...)
	default:
		r.config.Logger.Info("execution goes on")
	}
}

func orEmpty(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}
