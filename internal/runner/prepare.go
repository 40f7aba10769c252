package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/session"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// prepare gives new migrations their definition and their bounds. waiting: one waits for older transactions to end.
func (e *Executor) prepare(ctx context.Context, migrations []dbgen.Migration) (stepResult, error) {
	result := idle
	for _, m := range migrations {
		one, err := e.prepareOne(ctx, m)
		if err != nil {
			if err := e.setAside(ctx, m, fmt.Errorf("prepare: %w", err)); err != nil {
				return idle, err
			}
			continue
		}
		result = max(result, one)
	}
	return result, nil
}

// prepareOne checks the definition where no enqueue did, pins it, waits for the transactions that are older than the migration, and then
// fixes the upper bound: so that no row below it is committed after it was fixed.
func (e *Executor) prepareOne(ctx context.Context, m dbgen.Migration) (stepResult, error) {
	if time.Now().Before(e.postponed[m.ID]) {
		return idle, nil
	}
	if isWaiting, err := e.stillWaits(ctx, m); isWaiting || err != nil {
		return waiting, err
	}
	w, _ := e.runner.works.Get(m.WorkName)
	reading := session.Cancellable(ctx)
	target, err := e.resolve(reading, w, m)
	if err != nil {
		return idle, err
	}
	if m.WorkChecksum == nil {
		if err := e.checkWork(reading, w, target, m); err != nil {
			return idle, err
		}
	}
	if target.Rows, err = work.EstimateRows(reading, e.conn, w, target); err != nil {
		return idle, err
	}
	if err := e.setSession(ctx, w); err != nil {
		return idle, err
	}
	result := idle
	readCommitted := pgx.TxOptions{IsoLevel: pgx.ReadCommitted}
	err = pgx.BeginTxFunc(ctx, e.conn, readCommitted, func(tx pgx.Tx) error {
		locked, err := e.queries.MigrationLockUnprepared(ctx, tx, m.ID)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("lock: %w", err)
		}
		if locked.WorkChecksum != nil && *locked.WorkChecksum != w.Checksum() {
			return nil // pinned meanwhile by a runner that has another version
		}
		if locked.WorkChecksum == nil {
			if _, err := e.queries.MigrationPin(ctx, tx, work.PinParams(locked, w, target)); err != nil {
				return fmt.Errorf("pin: %w", err)
			}
		}
		open, err := e.awaitTransactions(ctx, tx, locked)
		if err != nil {
			return err
		}
		if len(open) > 0 {
			if locked.AwaitedTransactions == nil { // said once
				e.log.Info("migration waits for older transactions to end", "migration", m.Name, "transactions", open)
			}
			result = waiting
			return nil
		}
		result = busy
		return e.bound(ctx, tx, locked, work.NewStatements(w, target), target.Rows)
	})
	return result, err
}

func (e *Executor) checkWork(ctx context.Context, w *work.Work, target work.Target, m dbgen.Migration) error {
	arguments, err := work.ReadArguments(m.Arguments)
	if err != nil {
		return err
	}
	warnings, err := work.CheckWork(ctx, e.conn, w, target, arguments)
	if err != nil {
		return err
	}
	for _, warning := range warnings {
		e.log.Warn(warning.Message, "migration", m.Name, "work", w.Name)
	}
	return nil
}

// prepared begins the name of a transaction that is prepared for a two-phase commit, in [dbgen.Queries.TransactionListOpen].
const prepared = "prepared "

// stillWaits tells cheaply whether all transactions that a migration awaits are still open.
func (e *Executor) stillWaits(ctx context.Context, m dbgen.Migration) (bool, error) {
	if len(m.AwaitedTransactions) == 0 {
		return false, nil
	}
	open, err := e.queries.TransactionListOpen(ctx, e.conn)
	if err != nil {
		return false, fmt.Errorf("list open transactions: %w", err)
	}
	return !slices.ContainsFunc(m.AwaitedTransactions, func(t string) bool { return !slices.Contains(open, t) }), nil
}

// awaitTransactions notes the transactions that are open when the migration is first seen, and returns those that must still end.
func (e *Executor) awaitTransactions(ctx context.Context, tx pgx.Tx, m dbgen.Migration) ([]string, error) {
	open, err := e.queries.TransactionListOpen(ctx, tx)
	if err != nil {
		return nil, fmt.Errorf("list open transactions: %w", err)
	}
	awaited := mustEnd(open, m.AwaitedTransactions)
	if m.AwaitedTransactions != nil && len(awaited) == len(m.AwaitedTransactions) {
		return awaited, nil
	}
	err = e.queries.MigrationAwait(ctx, tx, dbgen.MigrationAwaitParams{MigrationID: m.ID, AwaitedTransactions: awaited})
	if err != nil {
		return nil, fmt.Errorf("note open transactions: %w", err)
	}
	return awaited, nil
}

// mustEnd returns which of the open transactions must still end, given those noted before; nil: none were noted yet. One that has vanished may have been
// prepared for a two-phase commit: then all that are prepared now are awaited as well, as CREATE INDEX CONCURRENTLY does.
func mustEnd(open, noted []string) []string {
	if noted == nil {
		return open
	}
	hasEnded := func(t string) bool { return !strings.HasPrefix(t, prepared) && !slices.Contains(open, t) }
	mayBePrepared := slices.ContainsFunc(noted, hasEnded)
	return slices.DeleteFunc(open, func(t string) bool {
		return !slices.Contains(noted, t) && (!mayBePrepared || !strings.HasPrefix(t, prepared))
	})
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

// setAside keeps a migration that cannot be prepared or claimed from standing in the way of others: it fails where its definition does not hold, and is
// held for a while otherwise. An error is returned only where the connection or the runner has ended, or nothing can be written.
func (e *Executor) setAside(ctx context.Context, m dbgen.Migration, cause error) error {
	if ctx.Err() != nil || e.conn.IsClosed() || isReadOnly(cause) {
		return cause
	}
	err := e.rejectOrHold(ctx, m, cause)
	if err != nil { // its row is locked by others, for one: then it is left alone without a note
		e.postponed[m.ID] = time.Now().Add(setAsideHold)
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
