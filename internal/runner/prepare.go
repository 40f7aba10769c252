package runner

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/session"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// prepare gives new migrations their definition and their bounds. It waits for nobody: what others
// have locked is left for later, and the first of these is returned.
func (e *Executor) prepare(ctx context.Context, migrations []dbgen.Migration) (isBusy bool, blocked *dbgen.Migration, err error) {
	if len(migrations) == 0 {
		return false, nil, nil
	}
	if err := e.waitForLocks(ctx, instant); err != nil {
		return false, nil, err
	}
	for _, m := range migrations {
		if e.isPostponed(m.ID) {
			continue
		}
		one, err := e.prepareOne(ctx, m)
		switch {
		case errors.Is(err, errBlocked), classify(err, failure{}) == kindContention:
			err = e.postpone(ctx, m, err)
			if blocked == nil {
				blocked = &m
			}
		case err != nil:
			err = e.setAside(ctx, m, fmt.Errorf("prepare: %w", err))
		}
		if err != nil {
			return false, nil, err
		}
		isBusy = isBusy || one
	}
	return isBusy, blocked, nil
}

// prepareBlocked tries one migration again whose table was locked, and waits this time, since there
// is nothing else to do.
func (e *Executor) prepareBlocked(ctx context.Context, m dbgen.Migration) (isBusy bool, err error) {
	if err := e.waitForLocks(ctx, e.config.LockTimeout); err != nil {
		return false, err
	}
	isBusy, err = e.prepareOne(ctx, m)
	if err == nil || errors.Is(err, errBlocked) {
		return isBusy, nil
	}
	return false, e.setAside(ctx, m, fmt.Errorf("prepare: %w", err))
}

// errBlocked is returned when the row of a migration that is to be prepared is locked: another
// runner is at it, or somebody pauses or cancels it.
var errBlocked = errors.New("the migration is locked by others")

// prepareOne checks the definition where no enqueue did, pins it, waits for the transactions that
// are older than the migration, and then fixes the upper bound: so that no row below it is
// committed after it was fixed.
func (e *Executor) prepareOne(ctx context.Context, m dbgen.Migration) (isBusy bool, err error) {
	w, _ := e.runner.works.Get(m.WorkName)
	if m.WorkChecksum == nil {
		if err := e.pin(ctx, w, m); err != nil {
			return false, err
		}
	}
	if err := e.setSession(ctx, w); err != nil {
		return false, err
	}
	err = e.whileUnprepared(ctx, m, func(tx pgx.Tx, m dbgen.Migration) error {
		if *m.WorkChecksum != w.Checksum() {
			return nil // pinned meanwhile by a runner that has another version
		}
		reading := session.Cancellable(ctx)
		target, err := e.resolve(reading, w, m)
		if err != nil {
			return err
		}
		awaited, err := e.queries.MigrationAwait(ctx, tx, m.ID)
		if err != nil {
			return fmt.Errorf("note open transactions: %w", err)
		}
		if len(awaited) > 0 {
			e.log.Info("migration waits for older transactions to end", "migration", m.Name, "transactions", awaited)
			return nil
		}
		if target.Rows, err = work.EstimateRows(reading, tx, w, target); err != nil {
			return err
		}
		isBusy = true
		return e.bound(ctx, tx, m, work.NewStatements(w, target), target.Rows)
	})
	return isBusy && err == nil, err
}

// pin fixes what a migration does that was enqueued by SQL, once that has been checked.
func (e *Executor) pin(ctx context.Context, w *work.Work, m dbgen.Migration) error {
	return e.whileUnprepared(ctx, m, func(tx pgx.Tx, m dbgen.Migration) error {
		if m.WorkChecksum != nil {
			return nil // by another runner
		}
		reading := session.Cancellable(ctx)
		target, err := e.resolve(reading, w, m)
		if err != nil {
			return err
		}
		if err := e.checkWork(reading, tx, w, target, m); err != nil {
			return err
		}
		if target.Rows, err = work.EstimateRows(reading, tx, w, target); err != nil {
			return err
		}
		if _, err := e.queries.MigrationPin(ctx, tx, work.PinParams(m, w, target)); err != nil {
			return fmt.Errorf("pin: %w", err)
		}
		return nil
	})
}

// whileUnprepared gives f a transaction that holds the row of the migration, or returns
// [errBlocked].
func (e *Executor) whileUnprepared(ctx context.Context, m dbgen.Migration, f func(pgx.Tx, dbgen.Migration) error) error {
	readCommitted := pgx.TxOptions{IsoLevel: pgx.ReadCommitted}
	return pgx.BeginTxFunc(ctx, e.conn, readCommitted, func(tx pgx.Tx) error {
		locked, err := e.queries.MigrationLockUnprepared(ctx, tx, m.ID)
		if errors.Is(err, pgx.ErrNoRows) {
			return errBlocked
		}
		if err != nil {
			return fmt.Errorf("lock: %w", err)
		}
		return f(tx, locked)
	})
}

func (e *Executor) checkWork(ctx context.Context, tx pgx.Tx, w *work.Work, target work.Target, m dbgen.Migration) error {
	arguments, err := work.ReadArguments(m.Arguments)
	if err != nil {
		return err
	}
	warnings, err := work.CheckWork(ctx, tx, w, target, arguments)
	if err != nil {
		return err
	}
	for _, warning := range warnings {
		e.log.Warn(warning.Message, "migration", m.Name, "work", w.Name)
	}
	return nil
}

// bound fixes the upper bound, or ends the migration where there is nothing to walk over. The session is the work's.
func (e *Executor) bound(ctx context.Context, tx pgx.Tx, m dbgen.Migration, statements *work.Statements, rows int64) error {
	if _, err := tx.Exec(ctx, work.StreamingPlans); err != nil {
		return fmt.Errorf("set up the search for the last key: %w", err)
	}
	var maxKey []string
	statement := statements.LastKey()
	reading := session.Cancellable(ctx)
	err := tx.QueryRow(reading, statement).Scan(&maxKey)
	if errors.Is(err, pgx.ErrNoRows) && statements.ForPasses() != nil {
		// What remains is judged on all rows, so a scope without rows is not enough.
		statement = statements.LastKeyOfAll()
		err = tx.QueryRow(reading, statement).Scan(&maxKey)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		empty := dbgen.MigrationFinishEmptyParams{MigrationID: m.ID, ChangedBy: e.identity, Statement: statement}
		if _, err := e.queries.MigrationFinishEmpty(ctx, tx, empty); err != nil {
			return fmt.Errorf("finish empty: %w", err)
		}
		e.log.Info("migration finished: no row to walk over", "migration", m.Name)
		return nil
	}
	if err != nil {
		return &workError{err: fmt.Errorf("read last key: %w", err)}
	}
	_, err = e.queries.MigrationBound(ctx, tx, dbgen.MigrationBoundParams{MigrationID: m.ID, MaxKey: maxKey, TotalTupleCount: rows})
	if err != nil {
		return fmt.Errorf("set upper bound: %w", err)
	}
	// Delivered with the commit. Other workers may take jobs of it too.
	if err := e.queries.RunnersWake(ctx, tx); err != nil {
		return fmt.Errorf("wake runners: %w", err)
	}
	e.log.Info("migration prepared", "migration", m.Name, "max_key", maxKey, "rows", rows)
	return nil
}

// resolve looks the work's table up and proves that it is the one that the migration was enqueued for.
func (e *Executor) resolve(ctx context.Context, w *work.Work, m dbgen.Migration) (work.Target, error) {
	target, err := work.Resolve(ctx, e.conn, w)
	if err != nil {
		return work.Target{}, err
	}
	// The name as well: it is what is looked up again behind each statement.
	if target.Oid != m.TableOid || target.Name != m.TableName {
		return work.Target{}, &work.DefinitionError{
			Code: dbgen.BBMMigrationFailureCodeInvalidTable,
			Message: fmt.Sprintf("the work %q is for %s (oid %d), but the migration was enqueued for %s (oid %d); a table that was renamed or made again, or a "+
				"database that was restored, needs another enqueue", w.Name, target.Name, target.Oid, m.TableName, m.TableOid),
		}
	}
	pinned, err := work.ReadRowSet(m.RowSet)
	if err != nil {
		return work.Target{}, err
	}
	if pinned != nil && !pinned.SameOrder(w.RowSet(target)) {
		return work.Target{}, &work.DefinitionError{
			Code: dbgen.BBMMigrationFailureCodeInvalidCursor,
			Message: fmt.Sprintf("the cursor's columns have another type or collation than at the enqueue, by which keys are in another order (%s, not %s), so that rows would be "+
				"left out; cancel this one and enqueue again", strings.Join(target.Order, "; "), strings.Join(pinned.Order, "; ")),
		}
	}
	return target, nil
}

// setAside keeps a migration that cannot be prepared or claimed from standing in the way of others:
// it fails where its definition does not hold, and is held for a while otherwise. An error is
// returned only where the connection or the runner has ended, or nothing can be written.
func (e *Executor) setAside(ctx context.Context, m dbgen.Migration, cause error) error {
	if ctx.Err() != nil || e.conn.IsClosed() || isReadOnly(cause) {
		return cause
	}
	err := e.rejectOrHold(ctx, m, cause)
	if err != nil { // its row is locked by others, for one: then it is left alone without a note
		e.leaveAlone(m.ID)
	}
	return e.endure(ctx, err, "migration could not be set aside; it is left alone for a while", "migration", m.Name, "cause", cause)
}

func (e *Executor) rejectOrHold(ctx context.Context, m dbgen.Migration, cause error) error {
	var definition *work.DefinitionError
	if errors.As(cause, &definition) {
		return e.reject(ctx, m, definition)
	}
	if classify(cause, failure{}) == kindDefinition {
		_, message := exception(cause)
		return e.reject(ctx, m, &work.DefinitionError{Code: dbgen.BBMMigrationFailureCodeInvalidTable, Message: message})
	}
	delete(e.targets, m.ID) // what is in the way may be what we remember of the table
	e.log.Error("migration held", "migration", m.Name, "error", cause, "for", setAsideHold)
	class, message := exception(cause)
	reason := class + ": " + message
	if by := e.blockedBy(ctx, m, cause); by != "" {
		reason = by
	}
	if errors.Is(cause, ErrJobEndpointNotFound) {
		reason = ErrJobEndpointNotFound.Error() + ": " + reason
	}
	return e.hold(ctx, m.ID, setAsideHold, reason)
}

// reject fails a migration whose definition does not hold.
func (e *Executor) reject(ctx context.Context, m dbgen.Migration, definition *work.DefinitionError) error {
	_, err := e.queries.MigrationReject(ctx, e.conn, dbgen.MigrationRejectParams{
		MigrationID: m.ID, FailureCode: definition.Code, FailureMessage: printable(definition.Message), ChangedBy: e.identity,
	})
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("reject: %w", err)
	}
	e.runner.noteExecuted(m.ID)
	e.log.Error("migration failed: its definition does not hold", "migration", m.Name, "code", definition.Code, "error", definition)
	e.config.Report(ctx, definition, map[string]string{"migration": m.Name, "work": m.WorkName, "code": string(definition.Code)})
	return nil
}
