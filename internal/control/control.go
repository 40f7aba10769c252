// Package control is what people do to migrations: enqueue, pause, resume, cancel, retry, set, watch, wait, delete.
//
// States of a migration; every change is logged with who made it and why:
//
//	enqueue ─▶ active ─▶ running ─▶ finished          an empty table is finished at once
//	             ▲  │       │  │
//	     resume  │  └─pause─┘  └──▶ failed ──retry──▶ active
//	             │      ▼
//	             └── paused            cancel: any but finished ─▶ cancelled
//
// A finished migration whose rows in quarantine are tried again is active until they have been.
//
// active and running differ only in that a running migration holds its table.
package control

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/nearest"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// Control acts on the migrations of one database. It is not safe for concurrent use, since a connection is not.
type Control struct {
	Conn      *pgx.Conn      // of session.Connect
	Works     *work.Registry // nil where no work is needed: only Enqueue and the adoption of a work read it
	ChangedBy string         // who does it, as the history shows it: alice@host
}

var queries = dbgen.New()

// ErrNotFound is returned when there is no migration of the given name.
var ErrNotFound = errors.New("no such migration")

// notFoundError names the migration that is not there, and one that may have been meant.
type notFoundError struct{ name, near string }

func (e *notFoundError) Error() string {
	if e.near != "" {
		return fmt.Sprintf("there is no migration %q; did you mean %q?", e.name, e.near)
	}
	return fmt.Sprintf("there is no migration %q; see: bbm-runner status", e.name)
}

func (e *notFoundError) Unwrap() error { return ErrNotFound }

// InputError is returned when what was asked for cannot be done as asked; its message says what can.
type InputError struct{ Msg string }

func (e *InputError) Error() string { return e.Msg }

func inputf(format string, values ...any) error {
	return &InputError{fmt.Sprintf(format, values...)}
}

// notFound looks for the name that may have been meant.
func (c *Control) notFound(ctx context.Context, name string) error {
	names, err := c.Names(ctx)
	if err != nil {
		return err
	}
	return &notFoundError{name, nearest.Word(name, names)}
}

// get reads a migration; [ErrNotFound] when there is none of that name.
func (c *Control) get(ctx context.Context, name string) (dbgen.Migration, error) {
	m, err := queries.MigrationGet(ctx, c.Conn, name)
	if errors.Is(err, pgx.ErrNoRows) {
		return m, c.notFound(ctx, name)
	}
	if err != nil {
		return m, fmt.Errorf("read migration %q: %w", name, err)
	}
	return m, nil
}

// locked runs fn in a transaction that holds the migration's row, so that what fn judges stays so until it has acted. [ErrNotFound] when there
// is none of that name.
func (c *Control) locked(ctx context.Context, name string, fn func(pgx.Tx, dbgen.Migration) error) error {
	return pgx.BeginFunc(ctx, c.Conn, func(tx pgx.Tx) error {
		row, err := queries.MigrationLock(ctx, tx, name)
		if errors.Is(err, pgx.ErrNoRows) {
			return c.notFound(ctx, name)
		}
		if err != nil {
			return fmt.Errorf("lock migration %q: %w", name, err)
		}
		if err := fn(tx, row.Migration); err != nil {
			return err
		}
		return wake(ctx, tx)
	})
}

// wake tells idle runners, once it is committed, that something may have changed for them.
func wake(ctx context.Context, tx pgx.Tx) error {
	if err := queries.RunnersWake(ctx, tx); err != nil {
		return fmt.Errorf("wake runners: %w", err)
	}
	return nil
}
