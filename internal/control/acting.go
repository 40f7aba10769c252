package control

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// SQLSTATEs by which the functions of the schema refuse: there is no such migration, it is in no
// state for that, a value is not possible.
const (
	undefinedObject  = "42704"
	notInState       = "55000"
	invalidParameter = "22023"
)

// acting runs fn in a transaction whose changes the history gives to ChangedBy. The functions of
// the schema that change something wake idle runners, too.
func (c *Control) acting(ctx context.Context, fn func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, c.Conn, func(tx pgx.Tx) error {
		if err := queries.ChangedBySet(ctx, tx, c.ChangedBy); err != nil {
			return fmt.Errorf("say who acts: %w", err)
		}
		return fn(tx)
	})
}

// actingOn is acting by a function that is about one migration. What it refuses is [ErrNotFound] or
// an [*InputError].
func (c *Control) actingOn(ctx context.Context, attempted, name string, fn func(pgx.Tx) error) error {
	err := c.acting(ctx, fn)
	var known *InputError
	if errors.As(err, &known) || errors.Is(err, ErrNotFound) {
		return err
	}
	var refusal *pgconn.PgError
	if errors.As(err, &refusal) {
		switch refusal.Code {
		case undefinedObject:
			return c.notFound(ctx, name)
		case notInState, invalidParameter:
			return &InputError{refusal.Message}
		}
	}
	return wrap(err, attempted, name)
}
