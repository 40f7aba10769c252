package preview

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// BlockedError is returned when a sample gave up waiting for a lock, so that those behind it in the queue can go on.
type BlockedError struct {
	Waited   time.Duration
	WaitsFor string // the lock; "" where it was not seen
	Blockers []Blocker
	Cause    error
}

// Blocker is a session that held what the sample waited for. What the role may not see of others is empty.
type Blocker struct {
	PID         int32 // 0: a prepared transaction
	Application string
	User        string
	State       string
	Transaction time.Duration // how long its transaction has been open
	Holds       []string      // its locks on the work's table
}

func (e *BlockedError) Unwrap() error { return e.Cause }

// Error is one line that names whom to talk to.
func (e *BlockedError) Error() string {
	text := fmt.Sprintf("gave up after %s, so that nobody queues behind the sample: it waited for ", e.Waited.Round(time.Millisecond))
	if e.WaitsFor == "" {
		text += "a lock"
	} else {
		text += e.WaitsFor
	}
	if len(e.Blockers) == 0 {
		return text + ", and whoever holds it was not seen"
	}
	held := make([]string, len(e.Blockers))
	for i, b := range e.Blockers {
		held[i] = b.String()
	}
	return text + ", which is held by " + strings.Join(held, " and ")
}

// String is what is known of the session.
func (b Blocker) String() string {
	if b.PID == 0 {
		return "a prepared transaction (see pg_prepared_xacts)"
	}
	var known []string
	add := func(isKnown bool, format string, value any) {
		if isKnown {
			known = append(known, fmt.Sprintf(format, value))
		}
	}
	add(b.User != "", "user %s", b.User)
	add(b.Application != "", "application %q", b.Application)
	add(b.State != "", "%s", b.State)
	add(b.Transaction > 0, "in a transaction for %s", b.Transaction.Round(time.Millisecond))
	add(len(b.Holds) > 0, "holds %s", strings.Join(b.Holds, ", "))
	return strings.TrimSpace(fmt.Sprintf("process %d (%s)", b.PID, strings.Join(known, ", ")))
}

const (
	// looksPerTimeout is how often the watcher looks within one lock timeout, so that one that has run out was seen.
	looksPerTimeout = 10
	// The least and the longest wait between two looks: each locks the server's lock table for an instant.
	shortestLook = 5 * time.Millisecond
	longestLook  = 250 * time.Millisecond
)

// watch is a second look at a session while it works.
type watch struct {
	watcher     *pgx.Conn // nil: nobody looks
	pid         uint32    // of the session
	table       uint32    // of which the blockers' locks are told; 0 while it is not known
	lockTimeout time.Duration
}

// during calls do while the watcher looks whom it waits for. A lock timeout becomes a [*BlockedError].
func (w watch) during(ctx context.Context, do func() error) error {
	done, seen := make(chan struct{}), make(chan *BlockedError)
	go func() { seen <- w.look(ctx, done) }()
	started := time.Now()
	err := do()
	waited := time.Since(started)
	close(done)
	blocked := <-seen
	if sqlState(err) != "55P03" { // lock_not_available
		return err
	}
	blocked.Waited, blocked.Cause = waited, err
	return blocked
}

// look returns what it has seen last when it is done. That it cannot look is no failure of the sample.
func (w watch) look(ctx context.Context, done <-chan struct{}) *BlockedError {
	last := &BlockedError{}
	if w.watcher == nil {
		<-done
		return last
	}
	every := longestLook
	if w.lockTimeout > 0 {
		every = min(longestLook, max(shortestLook, w.lockTimeout/looksPerTimeout))
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return last
		case <-ticker.C:
		}
		rows, err := queries.BlockerList(ctx, w.watcher, dbgen.BlockerListParams{WaitingPids: []int32{int32(w.pid)}, TableOid: w.table})
		if err != nil || len(rows) == 0 || rows[0].WaitsFor == "" && last.WaitsFor != "" {
			continue // the wait ended while we looked: what was seen before says more
		}
		last = &BlockedError{WaitsFor: rows[0].WaitsFor}
		for _, r := range rows {
			last.Blockers = append(last.Blockers, Blocker{
				PID: r.Pid, Application: r.ApplicationName, User: r.UserName, State: r.State, Holds: r.Holds,
				Transaction: time.Duration(r.TransactionSeconds * float64(time.Second)),
			})
		}
	}
}
