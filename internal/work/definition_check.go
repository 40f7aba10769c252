package work

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// beginner is a connection, or a transaction, in which a savepoint is made.
type beginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// CheckWork proves that the work can run on the target with these arguments: they are all there and
// of their types, an index serves the scope, the statement prepares, and its plan reads the target
// by an index of the cursor and no large table again for each row. It returns a [*DefinitionError]
// when not so; warnings are about what is tolerable on a small table. Nothing is changed: it all
// happens in a transaction that is rolled back.
func CheckWork(ctx context.Context, db beginner, w *Work, t Target, arguments Arguments) (warnings []Warning, err error) {
	if err := w.CheckArguments(arguments); err != nil {
		return nil, invalid(dbgen.BBMMigrationFailureCodeInvalidArguments, "%s", err)
	}
	err = inCheck(ctx, db, w, t, arguments, func(c check) error {
		warnings, err = c.checkAll(ctx)
		return err
	})
	return warnings, err
}

// inCheck gives f a transaction that is rolled back, and makes sure that what f has judged is the
// target.
func inCheck(ctx context.Context, db beginner, w *Work, t Target, arguments Arguments, f func(check) error) (err error) {
	tx, err := db.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin the check of work %q: %w", w.Name, err)
	}
	defer func() { err = errors.Join(err, tx.Rollback(context.WithoutCancel(ctx))) }()
	if err := f(check{tx, dbgen.New(), w, t, NewStatements(w, t), arguments}); err != nil {
		return err
	}
	return CheckStands(ctx, tx, t)
}

func (c check) checkAll(ctx context.Context) (warnings []Warning, err error) {
	if err := c.checkSession(ctx); err != nil {
		return nil, err
	}
	if err := c.checkArguments(ctx); err != nil {
		return nil, err
	}
	indexes, warnings, err := c.checkScope(ctx)
	if err != nil {
		return nil, err
	}
	if c.work.statement == nil {
		return warnings, c.checkRemaining(ctx)
	}
	if err := c.checkStatement(ctx); err != nil {
		return nil, err
	}
	if err := c.checkRemaining(ctx); err != nil {
		return nil, err
	}
	more, err := c.checkPlan(ctx, indexes)
	return append(warnings, more...), err
}

// check is one check of a work, in its transaction.
type check struct {
	tx         pgx.Tx
	queries    *dbgen.Queries
	work       *Work
	target     Target
	statements *Statements
	arguments  Arguments
}

// checkSession gives the transaction the settings that the work's statements run with.
func (c check) checkSession(ctx context.Context) error {
	err := c.queries.CheckSettingsSet(ctx, c.tx, dbgen.CheckSettingsSetParams{
		SearchPath: c.work.SearchPathSetting(), TimeZone: c.work.TimeZoneSetting(),
	})
	if fault := definitionFault(err); fault != nil {
		return invalid(dbgen.BBMMigrationFailureCodeInvalidWork, "%s: %s", c.work.file(), plainMessage(fault))
	}
	if err != nil {
		return fmt.Errorf("set up the check of work %q: %w", c.work.Name, err)
	}
	return nil
}

// checkArguments lets the server read each value as its type.
func (c check) checkArguments(ctx context.Context) error {
	for _, argument := range c.work.Arguments {
		one := Arguments{argument.Name: c.arguments[argument.Name]}
		sql, values := c.statements.ArgumentCheck(one)
		_, err := c.tx.Exec(ctx, sql, append([]any{pgx.QueryExecModeDescribeExec}, values...)...)
		fault := definitionFault(err)
		switch {
		case fault != nil && strings.HasPrefix(fault.Code, "42"):
			return invalid(dbgen.BBMMigrationFailureCodeInvalidWork, "%s: argument %q: %s", c.work.file(), argument.Name, plainMessage(fault))
		case fault != nil:
			return invalid(dbgen.BBMMigrationFailureCodeInvalidArguments, "argument %q is no %s: %s", argument.Name, argument.Type, plainMessage(fault))
		case err != nil:
			return fmt.Errorf("check argument %q: %w", argument.Name, err)
		}
	}
	return nil
}

// checkStatement lets the server parse the statement.
func (c check) checkStatement(ctx context.Context) error {
	anyKey := make(Key, len(c.target.Columns))
	sql, _, err := c.statements.Work(Range{Until: anyKey}, c.arguments)
	if err != nil {
		return err
	}
	if _, err := c.tx.Prepare(ctx, "", sql); err != nil {
		return c.blame(err, sql, 0, "prepare the statement")
	}
	return nil
}

// blame makes the server's error about a statement one about the work file's line. skipped is how many characters were put before it.
func (c check) blame(err error, sql string, skipped int, attempted string) error {
	fault := definitionFault(err)
	if fault == nil {
		return fmt.Errorf("%s of work %q: %w", attempted, c.work.Name, err)
	}
	where := c.work.file()
	if line := c.line(fault, sql, skipped); line > 0 {
		where = fmt.Sprintf("%s:%d", where, line)
	}
	return invalid(dbgen.BBMMigrationFailureCodeInvalidWork, "%s: %s", where, plainMessage(fault))
}

// line is where in the file the server found the fault; 0 when it did not say. Placeholders are replaced within their lines, so that the
// lines of the statement that was sent are those of the file.
func (c check) line(fault *pgconn.PgError, sql string, skipped int) int {
	position := int(fault.Position) - skipped // in characters, from 1
	runes := []rune(sql)
	if position < 1 || position > len(runes)+1 {
		return 0
	}
	return c.work.statement.line + strings.Count(string(runes[:position-1]), "\n")
}

// fileAt is the same with a line of the file; 0 for none.
func (w *Work) fileAt(line int) string {
	if line == 0 {
		return w.file()
	}
	return fmt.Sprintf("%s:%d", w.file(), line)
}

// file is how messages call the work.
func (w *Work) file() string {
	if w.Path != "" {
		return w.Path
	}
	return fmt.Sprintf("work %q", w.Name)
}
