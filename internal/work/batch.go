package work

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
)

// Batch is the range that one call of a Go work changes.
type Batch struct {
	Migration    string
	After, Until Key // half open: rows above After, up to and including Until; After is nil for a migration's first range
	Arguments    Arguments
	Attempt      int // counted from 1

	statements *Statements
}

// Batch makes the batch that a Go work's function is called with.
func (s *Statements) Batch(migration string, r Range, arguments Arguments, attempt int) Batch {
	return Batch{Migration: migration, After: r.After, Until: r.Until, Arguments: arguments, Attempt: attempt, statements: s}
}

// Exec runs one statement for the batch's rows and returns how many it changed. The statement is written as in a work file: @batch or
// @batch(alias) exactly once, arguments as @name. A mistake in it is a [*ParseError].
func (b Batch) Exec(ctx context.Context, tx pgx.Tx, sql string) (int64, error) {
	expanded, values, err := b.expand(sql)
	if err != nil {
		return 0, err
	}
	tag, err := tx.Exec(ctx, expanded, values...)
	if err != nil {
		return 0, fmt.Errorf("run statement of work %q: %w", b.statements.work.Name, err)
	}
	return tag.RowsAffected(), nil
}

// Query runs one statement, written as for [Batch.Exec], and returns its rows.
func (b Batch) Query(ctx context.Context, tx pgx.Tx, sql string) (pgx.Rows, error) {
	expanded, values, err := b.expand(sql)
	if err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, expanded, values...)
	if err != nil {
		return nil, fmt.Errorf("run query of work %q: %w", b.statements.work.Name, err)
	}
	return rows, nil
}

func (b Batch) expand(sql string) (string, []any, error) {
	if b.statements == nil {
		return "", nil, errors.New("this batch was not made by a runner, so it knows no table")
	}
	return b.statements.expandFor(b, sql)
}

// expandFor reads a statement that a Go work gave, once, and writes it for the batch's range.
func (s *Statements) expandFor(b Batch, sql string) (string, []any, error) {
	t, err := s.cache.get(sql, func() (*template, error) {
		return compile(source{s.work.Name, sql, 1}, s.work, false)
	})
	if err != nil {
		return "", nil, err
	}
	r := Range{b.After, b.Until}
	shape := s.shapeOf(r)
	return s.bind(s.expand(t, shape), shape, r, b.Arguments)
}

// maxTemplates bounds the memory of a work that writes a new text for each batch.
const maxTemplates = 100

// templateCache keeps statements that were read. The zero value is ready.
type templateCache struct {
	mu        sync.Mutex
	templates map[string]*template
}

// get returns the statement's template, made by read when it is not known yet.
func (c *templateCache) get(sql string, read func() (*template, error)) (*template, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, ok := c.templates[sql]; ok {
		return t, nil
	}
	t, err := read()
	if err != nil {
		return nil, err
	}
	if c.templates == nil || len(c.templates) >= maxTemplates {
		c.templates = make(map[string]*template)
	}
	c.templates[sql] = t
	return t, nil
}
