package runner

import (
	"context"
	"fmt"
	"time"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/session"
)

const (
	// instant is how long a lock is waited for where nothing may wait; 0 would stand for no limit.
	instant = time.Millisecond
	// postponeBase is how long a migration that others have locked is left alone at first: mostly it
	// is another runner, for milliseconds. Twice as long each time, up to setAsideHold.
	postponeBase = 50 * time.Millisecond
)

// postponement is until when a migration is not tried, since others have locked its row or its
// table.
type postponement struct {
	until  time.Time
	length time.Duration
}

// postpone leaves a migration that others have locked alone for a while, and with it all others
// that are locked now.
func (e *Executor) postpone(ctx context.Context, m dbgen.Migration, cause error) error {
	locked, err := e.queries.MigrationListLocked(ctx, e.conn)
	if err != nil {
		return fmt.Errorf("list locked migrations: %w", err)
	}
	e.leaveAlone(append(locked, m.ID)...)
	e.log.Warn("migration postponed: it is locked by others", "migration", m.Name, "error", cause, "for", e.postponed[m.ID].length, "with others", len(locked))
	return nil
}

// leaveAlone postpones migrations, each for longer than the last time.
func (e *Executor) leaveAlone(ids ...int64) {
	for _, id := range ids {
		if !e.isPostponed(id) {
			length := min(max(postponeBase, 2*e.postponed[id].length), setAsideHold)
			e.postponed[id] = postponement{until: time.Now().Add(length), length: length}
		}
	}
}

func (e *Executor) isPostponed(id int64) bool { return time.Now().Before(e.postponed[id].until) }

// stillPostponed returns the migrations that are to be left alone now.
func (e *Executor) stillPostponed() []int64 {
	ids := []int64{}
	for id := range e.postponed {
		if e.isPostponed(id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// untilNextTry is how long it takes until the first of the migrations that are left alone now is
// tried again; most where there is none.
func (e *Executor) untilNextTry(most time.Duration) time.Duration {
	for _, p := range e.postponed {
		if left := time.Until(p.until); left > 0 {
			most = min(most, left)
		}
	}
	return most
}

// waitForLocks sets how long a statement waits for a lock from here on.
func (e *Executor) waitForLocks(ctx context.Context, length time.Duration) error {
	if e.lockWait == length {
		return nil
	}
	if _, err := e.conn.Exec(ctx, "SET lock_timeout = "+session.Milliseconds(length)); err != nil {
		return lost(fmt.Errorf("limit the wait for locks: %w", err))
	}
	e.lockWait = length
	return nil
}
