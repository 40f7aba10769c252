package runner

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// errEndedByRunner is what a Go work gets that tries to end the transaction.
var errEndedByRunner = errors.New("the runner ends the sub-batch's transaction: return from the work instead")

// errTransactionEnded is the error of a Go work that has ended the transaction by a statement of its own: what it changed may be committed without the
// progress, so it is not called again.
var errTransactionEnded = errors.New("the work ended the sub-batch's transaction, or gave back its locks: its last changes may be committed without being counted")

// errRowsLeftOpen is the error of a Go work that returns without having read or closed the rows of a query.
var errRowsLeftOpen = errors.New("the work left the rows of a query open: close them before it returns")

// workTx keeps a Go work from ending the transaction that it shares with the job's progress, and remembers what the work opened: rows left open, by a
// panic for one, would keep the connection busy.
type workTx struct {
	pgx.Tx
	opened interface{ Close() } // last; those before it were closed, else it could not have been opened
}

func (*workTx) Commit(context.Context) error   { return errEndedByRunner }
func (*workTx) Rollback(context.Context) error { return errEndedByRunner }

// Query remembers the rows.
func (t *workTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return t.opens(t.Tx.Query(ctx, sql, args...))
}

// QueryRow remembers the row, which is closed when it is scanned.
func (t *workTx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	rows, err := t.Query(ctx, sql, args...)
	return workRow{rows, err}
}

// SendBatch remembers the results.
func (t *workTx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	results := t.Tx.SendBatch(ctx, b)
	t.opened = closing(func() { _ = results.Close() })
	return results
}

// Begin starts a savepoint, which the work ends itself.
func (t *workTx) Begin(ctx context.Context) (pgx.Tx, error) {
	nested, err := t.Tx.Begin(ctx)
	if err != nil {
		return nil, err
	}
	return nestedTx{Tx: nested, outer: t}, nil
}

func (t *workTx) opens(rows pgx.Rows, err error) (pgx.Rows, error) {
	if err == nil {
		t.opened = rows
	}
	return rows, err
}

// closeLeft closes what the work left open, and reports whether that was anything.
func (t *workTx) closeLeft() bool {
	left := t.Conn().PgConn().IsBusy()
	if t.opened != nil {
		t.opened.Close()
	}
	return left
}

// nestedTx is a savepoint of a Go work.
type nestedTx struct {
	pgx.Tx
	outer *workTx
}

func (t nestedTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return t.outer.opens(t.Tx.Query(ctx, sql, args...))
}

func (t nestedTx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	rows, err := t.Query(ctx, sql, args...)
	return workRow{rows, err}
}

type closing func()

func (c closing) Close() { c() }

// workRow is the first row of a query, as pgx has it.
type workRow struct {
	rows pgx.Rows
	err  error
}

func (r workRow) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.rows.Close()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return pgx.ErrNoRows
	}
	if err := r.rows.Scan(dest...); err != nil {
		return err
	}
	r.rows.Close()
	return r.rows.Err()
}
