package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// application is one client of the tables that bbm-runner changes: it writes to the rows, and sometimes stands in the way.
type application struct {
	url    string
	kind   kind
	rows   int
	ledger *ledger
	isOld  func() bool // whether it still writes rows that a migration has to change
	rng    *rand.Rand
	conn   *pgx.Conn
}

// callTimeout is the longest that the application waits for the server; more than any lock here is held.
const callTimeout = 20 * time.Second

// use acts until ctx ends. What it has begun it completes, since the answer counts.
func (a *application) use(ctx context.Context) {
	for ctx.Err() == nil {
		if a.conn == nil || a.conn.IsClosed() {
			if !a.connect(ctx) {
				pause(ctx, 20*time.Millisecond)
				continue
			}
		}
		opCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		a.ledger.place.RLock()
		a.act(opCtx)
		a.ledger.place.RUnlock()
		cancel()
		pause(ctx, time.Duration(a.rng.IntN(8))*time.Millisecond)
	}
	if a.conn != nil {
		_ = a.conn.Close(context.WithoutCancel(ctx))
	}
}

func (a *application) connect(ctx context.Context) bool {
	conn, err := pgx.Connect(ctx, a.url)
	if err != nil {
		return false
	}
	a.conn = conn
	// More patient than the runner, so that it is mostly the runner that gives way.
	_, err = conn.Exec(ctx, `SET lock_timeout = '3s'`)
	return err == nil
}

func (a *application) act(ctx context.Context) {
	switch n := a.rng.IntN(100); {
	case n < 50:
		a.update(ctx, a.ledger.pick(a.rng, 1), 0)
	case n < 62: // in no order: deadlocks
		a.update(ctx, a.ledger.pick(a.rng, 2+a.rng.IntN(8)), 0)
	case n < 65: // longer than a sub-batch waits for a lock
		a.update(ctx, a.ledger.pick(a.rng, 1+a.rng.IntN(3)), time.Duration(a.rng.IntN(500))*time.Millisecond)
	case n < 77:
		a.insert(ctx, a.kind.inside(a.rng, a.rows), 0)
	case n < 80:
		a.insert(ctx, a.kind.inside(a.rng, a.rows), time.Duration(a.rng.IntN(500))*time.Millisecond)
	case n < 82:
		a.insert(ctx, nil, 0)
	case n < 85:
		a.insert(ctx, nil, time.Duration(a.rng.IntN(1500))*time.Millisecond)
	case n < 94:
		a.delete(ctx, a.ledger.pick(a.rng, 1)[0])
	case n < 99:
		a.changeItsMind(ctx)
	default:
		a.lockTable(ctx, time.Duration(a.rng.IntN(400))*time.Millisecond)
	}
}

// judge tells what an error of a statement, or of a COMMIT, says about its effect.
func (a *application) judge(err error) verdict {
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return applied
	case a.conn.IsClosed():
		return unknown
	case errors.As(err, &pg), errors.Is(err, pgx.ErrNoRows), errors.Is(err, pgx.ErrTxCommitRollback):
		return refused
	}
	return unknown
}

// update counts up the notes of rows, one statement each, and holds them for a while before the commit.
func (a *application) update(ctx context.Context, tags []int64, hold time.Duration) {
	tx, err := a.conn.Begin(ctx)
	if err != nil {
		return
	}
	defer func() { _ = tx.Rollback(ctx) }()
	var changed []int64
	for _, tag := range tags {
		result, err := tx.Exec(ctx, fmt.Sprintf(`UPDATE app.%s SET note = note + 1 WHERE tag = $1`, a.kind.name), tag)
		if err != nil {
			return // no COMMIT was sent
		}
		if result.RowsAffected() > 0 {
			changed = append(changed, tag)
		}
	}
	pause(ctx, hold)
	a.ledger.updated(changed, a.judge(tx.Commit(ctx)))
}

// insert adds a row under a key, nil for one behind all others, in a transaction that takes a while
// before or after it: a migration that is enqueued meanwhile must not miss it. A key that is taken
// already is no insert.
func (a *application) insert(ctx context.Context, key []any, hold time.Duration) {
	isNew := !a.isOld()
	tag := a.ledger.newTag(isNew)
	if key == nil {
		key = a.kind.beyond(a.rng, a.rows, tag)
	}
	tx, err := a.conn.Begin(ctx)
	if err != nil {
		a.ledger.inserted(tag, time.Time{}, refused)
		return
	}
	defer func() { _ = tx.Rollback(ctx) }()
	at := time.Now()
	if a.rng.IntN(2) == 0 {
		pause(ctx, hold)
		hold = 0
	}
	result, err := tx.Exec(ctx, fmt.Sprintf(`INSERT INTO app.%s (tag, proved, %s) VALUES ($1, %t, %s) ON CONFLICT DO NOTHING`,
		a.kind.name, a.kind.cursor, isNew, a.kind.insert), append([]any{tag}, key...)...)
	if err != nil || result.RowsAffected() == 0 {
		a.ledger.inserted(tag, time.Time{}, refused) // no COMMIT was sent
		return
	}
	pause(ctx, hold)
	a.ledger.inserted(tag, at, a.judge(tx.Commit(ctx)))
}

func (a *application) delete(ctx context.Context, tag int64) {
	a.ledger.deleting(tag)
	result, err := a.conn.Exec(ctx, fmt.Sprintf(`DELETE FROM app.%s WHERE tag = $1`, a.kind.name), tag)
	if err == nil && result.RowsAffected() > 0 {
		a.ledger.deleted(tag)
	}
}

// changeItsMind deletes and updates rows, and rolls back.
func (a *application) changeItsMind(ctx context.Context) {
	tx, err := a.conn.Begin(ctx)
	if err != nil {
		return
	}
	defer func() { _ = tx.Rollback(ctx) }()
	for i, tag := range a.ledger.pick(a.rng, 4) {
		statement := `UPDATE app.%s SET note = note + 1000 WHERE tag = $1`
		if i%2 == 0 {
			statement = `DELETE FROM app.%s WHERE tag = $1`
		}
		if _, err := tx.Exec(ctx, fmt.Sprintf(statement, a.kind.name), tag); err != nil {
			return
		}
	}
}

// lockTable is what a careless ALTER TABLE does.
func (a *application) lockTable(ctx context.Context, hold time.Duration) {
	tx, err := a.conn.Begin(ctx)
	if err != nil {
		return
	}
	defer func() { _ = tx.Rollback(ctx) }()
	if _, err := tx.Exec(ctx, fmt.Sprintf(`LOCK TABLE app.%s IN SHARE ROW EXCLUSIVE MODE`, a.kind.name)); err == nil {
		pause(ctx, hold)
	}
}
