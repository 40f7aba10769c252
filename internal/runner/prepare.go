package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
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
	w, _ := e.runner.works.Get(m.WorkName)
	target, err := e.resolve(ctx, w, m)
	if err != nil {
		return idle, err
	}
	if m.WorkChecksum == nil {
		if err := e.checkWork(ctx, w, target, m); err != nil {
			return idle, err
		}
	}
	if target.Rows, err = work.EstimateRows(ctx, e.conn, w, target); err != nil {
		return idle, err
	}
	if err := e.setSession(ctx, w); err != nil {
		return idle, err
	}
	result := idle
	readCommitted := pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}
	err = pgx.BeginTxFunc(ctx, e.conn, readCommitted, func(tx pgx.Tx) error {
		locked, err := e.queries.MigrationLockUnprepared(ctx, tx, m.ID)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("lock: %w", err)
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
			e.log.Info("migration waits for older transactions to end", "migration", m.Name, "transactions", open)
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
		e.log.Warn(warning, "migration", m.Name, "work", w.Name)
	}
	return nil
}

// awaitTransactions notes the transactions that are open when the migration is first seen, and returns those of them that still are.
func (e *Executor) awaitTransactions(ctx context.Context, tx pgx.Tx, m dbgen.Migration) ([]string, error) {
	open, err := e.queries.TransactionListOpen(ctx, tx)
	if err != nil {
		return nil, fmt.Errorf("list open transactions: %w", err)
	}
	if m.AwaitedTransactions == nil {
		err := e.queries.MigrationAwait(ctx, tx, dbgen.MigrationAwaitParams{MigrationID: m.ID, AwaitedTransactions: open})
		if err != nil {
			return nil, fmt.Errorf("note open transactions: %w", err)
		}
		return open, nil
	}
	return slices.DeleteFunc(open, func(t string) bool { return !slices.Contains(m.AwaitedTransactions, t) }), nil
}

// bound fixes the upper bound, or ends the migration where there is nothing to walk over. The session is the work's.
func (e *Executor) bound(ctx context.Context, tx pgx.Tx, m dbgen.Migration, statements *work.Statements, rows int64) error {
	if _, err := tx.Exec(ctx, work.StreamingPlans); err != nil {
		return fmt.Errorf("set up the search for the last key: %w", err)
	}
	var maxKey []string
	err := tx.QueryRow(ctx, statements.LastKey()).Scan(&maxKey)
	if errors.Is(err, pgx.ErrNoRows) {
		if _, err := e.queries.MigrationFinishEmpty(ctx, tx, dbgen.MigrationFinishEmptyParams{MigrationID: m.ID, ChangedBy: e.identity}); err != nil {
			return fmt.Errorf("finish empty: %w", err)
		}
		e.log.Info("migration finished: no row to walk over", "migration", m.Name)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read last key: %w", err)
	}
	err = e.queries.MigrationBound(ctx, tx, dbgen.MigrationBoundParams{MigrationID: m.ID, MaxKey: maxKey, TotalTupleCount: rows})
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
	if target.Oid != m.TableOid {
		return work.Target{}, &work.DefinitionError{
			Code:    dbgen.BBMMigrationFailureCodeInvalidTable,
			Message: fmt.Sprintf("the work %q is for %s, but the migration was enqueued for %s", w.Name, target.Name, m.TableName),
		}
	}
	return target, nil
}

// setAside keeps a migration that cannot be prepared or claimed from standing in the way of others: it fails where its definition does not hold, and is
// held for a while otherwise. An error is returned only where the connection or the runner has ended.
func (e *Executor) setAside(ctx context.Context, m dbgen.Migration, cause error) error {
	if ctx.Err() != nil || e.conn.IsClosed() {
		return cause
	}
	var definition *work.DefinitionError
	if errors.As(cause, &definition) {
		return e.reject(ctx, m, definition)
	}
	if classify(cause, failure{}) == kindDefinition {
		_, message := exception(cause)
		return e.reject(ctx, m, &work.DefinitionError{Code: dbgen.BBMMigrationFailureCodeInvalidTable, Message: message})
	}
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
