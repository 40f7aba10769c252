// Package bbm makes a bbm-runner of your own: the whole command line, with works written in Go beside those in SQL files. Its main is this:
//
//	func main() {
//		bbm.Main(bbm.Work{
//			Name:    "hash_emails",
//			Version: "1",
//			Table:   "app.users",
//			Cursor:  []string{"id"},
//			Do:      hashEmails,
//		})
//	}
//
// A work is what is done to one batch of a table. Write it in Go where SQL cannot say it: a cipher whose key must stay out of the database, a
// parser, a lookup in another system. Where SQL can, a .sql file is shorter and as fast as the database.
//
// The runner cuts the table into ranges along the cursor and calls Do for one range after the other, each in a transaction of its own. What Do
// writes through that transaction happens exactly once, even across crashes. What it does outside of the database happens at least once.
package bbm

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/cli"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// Main runs the command line with these works added to those in files, and exits with its code: 0
// done; 1 failed; 2 wrong usage or input; 3 and 4 are those of the command wait, 5 that of verify.
// A work that is incomplete is told and left out, as a broken file is. It reads os.Args and the
// environment, and does not return.
func Main(works ...Work) {
	program := cli.Program{Name: filepath.Base(os.Args[0]), Args: os.Args[1:]}
	for _, w := range works {
		program.Works = append(program.Works, w.registered())
	}
	os.Exit(cli.Run(context.Background(), program))
}

// Work is what is done to one batch of a table. Name, Version, Table, Cursor and Do are required.
type Work struct {
	// Name is unique among all works: letters, digits, _, - and ., at most 100 bytes.
	Name string
	// Version is to be changed whenever Do does something else. A migration stays with the version that it was enqueued with: runners that have
	// another one leave it alone until it is resumed or retried with --accept-work.
	Version string
	// Description is one line for the list of works. Optional.
	Description string
	// Table is written as in SQL, with its schema: public.users, "Odd Name"."T".
	Table string
	// Cursor names the columns whose order cuts the table into ranges, as the catalog has them (no quotes). They are NOT NULL and exactly those of a
	// unique index; a type is one of smallint, int, bigint, numeric, uuid, text, varchar, date, timestamp and timestamptz.
	Cursor []string
	// Scope is a predicate on the table's columns, unqualified, as in status = 'draft': only rows that it matches are walked over. It is the
	// predicate of a partial index on the cursor's columns. A range covers all of its rows, so what Do runs has to say again which it means. Optional.
	Scope string
	// Remaining is a predicate on the table's columns, unqualified, as in email_lower IS NULL, that holds for rows which are still to be changed. With it,
	// the migration is finished only when a walk over the whole table has found no such row; where there are some, Do goes again over those ranges, and
	// b.Exec and b.Query then see those rows alone. Optional.
	Remaining string
	// RepeatedKeys admits a cursor whose index is not unique. Rows of equal keys then stay in one call.
	RepeatedKeys bool
	// Arguments are the values that the work takes at enqueue, all of them required.
	Arguments []Argument
	// BatchSize is how many rows one job has; 0: 50,000.
	BatchSize int
	// SubBatchSize is how many rows one call of Do gets, at most BatchSize; 0: chosen by the runner, starting at 1,000.
	SubBatchSize int
	// ExternalEffects says that Do changes what a rollback does not undo: it sends mail, calls another system, writes files. Such a work is never
	// run on trial (the command sample refuses it).
	ExternalEffects bool
	// Do changes the rows of one batch through tx and returns how many it changed, for the record.
	//
	// It must neither commit nor roll back, nor keep tx or b beyond the call. Names in SQL need their
	// schema, since the search path is pg_catalog alone. An error, or a panic, rolls the batch back
	// and counts as a failed attempt, after which the job is tried again; errors of the server should
	// be returned wrapped, so that a deadlock or a timeout is told from a mistake, and one that is
	// about a row as a [*RowError]. ctx ends when the runner is stopped the hard way. Several calls
	// may run at the same time, for different batches.
	Do func(ctx context.Context, tx pgx.Tx, b Batch) (affected int64, err error)
}

// RowError is what [Work.Do] returns, wrapped or not, when the data of one of its rows are at
// fault: a value that does not parse, one that another system refuses. It is treated as an error of
// the server about a row is: the batch is rolled back, and Do is called again for half of it, and
// half of that, until the row stands alone. All others are changed; that one is left out where the
// migration has on_row_error=quarantine, else it fails the attempt. The runner finds the row by
// itself; Err says what is wrong with it. With RepeatedKeys, where rows do not stand alone, it
// fails the attempt.
type RowError struct {
	Err error
}

// Error is the message of Err.
func (e *RowError) Error() string {
	if e.Err == nil {
		return "the data of a row are at fault"
	}
	return e.Err.Error()
}

// Unwrap returns Err.
func (e *RowError) Unwrap() error { return e.Err }

// Argument is a value that a work takes at enqueue: --arg name=value.
type Argument struct {
	Name string // lower-case letters, digits and _
	Type string // as in SQL: text, bigint, numeric(10,2), int[]; a value that does not fit is refused at enqueue
}

// Batch is the range of rows that one call of [Work.Do] changes.
type Batch struct {
	// Migration is the name of the migration that this batch belongs to.
	Migration string
	// After and Until bound the range: rows whose cursor is above After, up to and including Until. They hold a text form for each cursor column,
	// written by PostgreSQL, and are not to be compared in Go. After is nil for the first range, which has no lower bound. Where a row comes out of
	// quarantine, Exec and Query are about the row of Until alone, whatever has been written between the two since.
	After, Until []string
	// Arguments are the values given at enqueue.
	Arguments Arguments
	// Attempt is counted from 1 for each job.
	Attempt int

	inner work.Batch
}

// Arguments are values in PostgreSQL's text form, by name; nil is NULL.
type Arguments map[string]*string

// Get returns a value; false where it is NULL or there is no such argument.
func (a Arguments) Get(name string) (string, bool) { return work.Arguments(a).Get(name) }

// Exec runs one statement for the rows of the batch and returns how many it changed. The statement is written as in a work file: @batch or
// @batch(alias) exactly once, in a WHERE clause, and arguments as @name. Errors of the server are wrapped.
func (b Batch) Exec(ctx context.Context, tx pgx.Tx, sql string) (int64, error) {
	return b.inner.Exec(ctx, tx, sql)
}

// Query runs one statement, written as for [Batch.Exec], and returns its rows, which are to be read or closed before tx is used again.
func (b Batch) Query(ctx context.Context, tx pgx.Tx, sql string) (pgx.Rows, error) {
	return b.inner.Query(ctx, tx, sql)
}

// registered is the work as the registry takes it. What is missing is refused there, with a reason.
func (w Work) registered() *work.Work {
	registered := &work.Work{
		Name: w.Name, Version: w.Version, Description: w.Description,
		Table: w.Table, Cursor: w.Cursor, Scope: w.Scope, Remaining: w.Remaining, RepeatedKeys: w.RepeatedKeys,
		BatchSize: w.BatchSize, SubBatchSize: w.SubBatchSize, ExternalEffects: w.ExternalEffects,
	}
	for _, argument := range w.Arguments {
		registered.Arguments = append(registered.Arguments, work.Argument(argument))
	}
	if w.Do != nil {
		registered.Do = func(ctx context.Context, tx pgx.Tx, b work.Batch) (int64, error) {
			affected, err := w.Do(ctx, tx, Batch{
				Migration: b.Migration, After: b.After, Until: b.Until,
				Arguments: Arguments(b.Arguments), Attempt: b.Attempt, inner: b,
			})
			if ofRow := (*RowError)(nil); errors.As(err, &ofRow) {
				err = &work.RowError{Err: err}
			}
			return affected, err
		}
	}
	return registered
}
