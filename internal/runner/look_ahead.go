package runner

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

const (
	// idleLimit bounds the back-off while idle, as a multiple of the poll interval.
	idleLimit = 6
	// awaitingInterval is the first wait for a migration's older transactions to end: most last
	// milliseconds. It doubles.
	awaitingInterval = 50 * time.Millisecond
)

// patience is how long an executor sleeps when it finds nothing to do. The zero value has just
// found something.
type patience struct {
	idle     time.Duration
	awaiting time.Duration
}

// sleep tells how long to rest after one more look that found nothing, given what lies ahead, if
// that is known. isWorking: the executor had something to do a moment ago.
func (p *patience) sleep(poll time.Duration, ahead *dbgen.MigrationLookAheadRow, isWorking bool) time.Duration {
	p.idle = min(max(poll, p.idle*3/2), idleLimit*poll)
	length := jitter(p.idle)
	if ahead == nil {
		return length
	}
	if ahead.IsAwaiting {
		p.awaiting = min(max(awaitingInterval, 2*p.awaiting), poll)
		length = min(length, jitter(p.awaiting))
	}
	due := ahead.DueIn
	if !isWorking {
		// Others that are idle know of the same moment. The one that is at work keeps to it; the rest
		// come one by one, should that one be gone.
		due += rand.N(poll)
	}
	return min(length, due)
}

// lookAhead asks, after a look that found nothing, what there will be to do. since is when that
// look began.
func (e *Executor) lookAhead(ctx context.Context, since time.Time) (*dbgen.MigrationLookAheadRow, error) {
	ahead, err := e.queries.MigrationLookAhead(ctx, e.conn, dbgen.MigrationLookAheadParams{
		Works: e.works, WorkNames: e.names, OnlyNames: e.config.Only,
		LookedAgo: time.Since(since), AtMost: idleLimit * e.config.PollInterval,
	})
	if err != nil {
		return nil, lost(fmt.Errorf("look ahead: %w", err))
	}
	return &ahead, nil
}

// isWorking tells whether the executor had something to do a moment ago.
func (e *Executor) isWorking() bool { return time.Since(e.workedAt) < idleLimit*e.config.PollInterval }
