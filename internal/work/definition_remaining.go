package work

import (
	"context"
	"fmt"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// CheckRemaining proves that the predicate of what remains is one about the target's rows; else it returns a [*DefinitionError].
func CheckRemaining(ctx context.Context, db beginner, w *Work, t Target) error {
	return inCheck(ctx, db, w, t, nil, func(c check) error {
		if err := c.checkSession(ctx); err != nil {
			return err
		}
		return c.checkPredicate(ctx)
	})
}

// checkPredicate lets the server judge the predicate, in a place where it takes conditions on single rows alone.
func (c check) checkPredicate(ctx context.Context) error {
	sql := fmt.Sprintf("SELECT 1 FROM %s WHERE (%s)", c.statements.from, c.work.Remaining)
	_, err := c.tx.Prepare(ctx, "", sql)
	if fault := definitionFault(err); fault != nil {
		return invalid(dbgen.BBMMigrationFailureCodeInvalidWork, "%s: remaining: %s", c.work.remainingFile(), plainMessage(fault))
	}
	if err != nil {
		return fmt.Errorf("prepare what remains of work %q: %w", c.work.Name, err)
	}
	return nil
}

// checkRemaining judges the predicate, and the statement of a pass.
func (c check) checkRemaining(ctx context.Context) error {
	if c.work.Remaining == "" {
		return nil
	}
	if err := c.checkPredicate(ctx); err != nil || c.work.statement == nil {
		return err
	}
	// The statement itself is known to be right, so what is wrong now is @batch with the predicate in it.
	sql, _, err := c.statements.passes.Work(Range{Until: make(Key, len(c.target.Columns))}, c.arguments)
	if err == nil {
		_, err = c.tx.Prepare(ctx, "", sql)
	}
	if fault := definitionFault(err); fault != nil {
		return invalid(dbgen.BBMMigrationFailureCodeInvalidWork,
			"%s: remaining: %s; a pass over rows that remain puts the predicate to @batch, so write @batch(alias) with the name of the table itself",
			c.work.remainingFile(), plainMessage(fault))
	}
	if err != nil {
		return fmt.Errorf("prepare a pass of work %q: %w", c.work.Name, err)
	}
	return nil
}

// remainingFile is how messages about the predicate begin.
func (w *Work) remainingFile() string { return w.fileAt(w.remainingLine) }
