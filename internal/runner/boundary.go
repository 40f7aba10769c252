package runner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/session"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// endsLive is how long ends found ahead are good for: what others insert into a sub-batch's range after it was looked at makes it larger than asked,
// and is not in its count.
const endsLive = 10 * time.Second

// mostPieces bounds how many ends one walk finds: each costs a descent of the index, so that a walk for sub-batches of one row would take as long as
// their work.
const mostPieces = 1_000

// endpoint is where a job or a sub-batch ends, and how many rows its range held when it was looked at.
type endpoint struct {
	key  work.Key
	rows int64
}

// endpoints are the ends of successive sub-batches, found in one walk, so that no row is walked over twice.
type endpoints struct {
	ahead   []endpoint
	foundAt time.Time
}

// last is where the walk ended.
func (e *endpoints) last() work.Key { return e.ahead[len(e.ahead)-1].key }

// known tells whether the end of the next sub-batch need not be looked for.
func (e *endpoints) known() bool {
	return len(e.ahead) > 0 && e.ahead[0].rows != uncounted && time.Since(e.foundAt) <= endsLive
}

// next takes the end of the next sub-batch: as many pieces as fit in that many rows, one at least. There must be one.
func (e *endpoints) next(rows int) (end endpoint) {
	end, e.ahead = e.ahead[0], e.ahead[1:]
	for len(e.ahead) > 0 && e.ahead[0].rows != uncounted && end.rows+e.ahead[0].rows <= int64(rows) {
		end = endpoint{e.ahead[0].key, end.rows + e.ahead[0].rows}
		e.ahead = e.ahead[1:]
	}
	return end
}

// uncounted are the rows of what is left behind the last full piece of a range.
const uncounted = -1

// boundary finds the ends of the next sub-batches of limit rows in the next total rows of a range, in a transaction of its own that waits for locks as
// short as a sub-batch may. The last is the range's own end where it holds no more. Its error is [ErrJobEndpointNotFound].
func (e *Executor) boundary(ctx context.Context, s *work.Statements, r work.Range, limit, total int) (found endpoints, err error) {
	var p pipeline
	p.batch.Queue("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY")
	p.batch.Queue("SELECT set_config('lock_timeout', $1, true)", session.Milliseconds(e.config.LockTimeout))
	p.queueBoundary(s, r, limit, total)
	p.batch.Queue("COMMIT")
	p.send(session.Cancellable(ctx), e.conn)
	defer func() {
		if closeErr := p.close(); err == nil && closeErr != nil {
			err = fmt.Errorf("%w: %w", ErrJobEndpointNotFound, closeErr)
		}
	}()
	for range 2 {
		if _, err := p.results.Exec(); err != nil {
			return found, fmt.Errorf("%w: %w", ErrJobEndpointNotFound, err)
		}
	}
	return p.readBoundary(r, total)
}

// boundaryWithin is the same within the transaction that is open.
func (e *Executor) boundaryWithin(ctx context.Context, s *work.Statements, r work.Range, limit, total int) (found endpoints, err error) {
	var p pipeline
	p.queueBoundary(s, r, limit, total)
	p.send(session.Cancellable(ctx), e.conn)
	defer func() {
		if closeErr := p.close(); err == nil && closeErr != nil {
			err = fmt.Errorf("%w: %w", ErrJobEndpointNotFound, closeErr)
		}
	}()
	return p.readBoundary(r, total)
}

func (p *pipeline) queueBoundary(s *work.Statements, r work.Range, limit, total int) {
	sql, values := s.Boundary(r, limit, total)
	p.batch.Queue(work.StreamingPlans)
	p.batch.Queue(sql, values...)
}

// readBoundary returns one end at least.
func (p *pipeline) readBoundary(r work.Range, total int) (found endpoints, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrJobEndpointNotFound, err)
		}
	}()
	if _, err := p.results.Exec(); err != nil {
		return found, err
	}
	rows, err := p.results.Query()
	if err != nil {
		return found, &workError{err: err}
	}
	var (
		piece, count, sum int64
		key               work.Key
		reachedEnd        bool
	)
	_, err = pgx.ForEachRow(rows, []any{&piece, &key, &count, &reachedEnd}, func() error {
		found.ahead = append(found.ahead, endpoint{key, count})
		sum += count
		if piece != int64(len(found.ahead)) {
			return errOutOfOrder
		}
		key = nil
		return nil
	})
	switch {
	case err != nil:
		return found, &workError{err: err}
	case found.ahead == nil:
		found.ahead = []endpoint{{r.Until, 0}}
	case !reachedEnd && sum < int64(total):
		found.ahead = append(found.ahead, endpoint{r.Until, uncounted})
	}
	found.foundAt = time.Now()
	return found, nil
}

// errOutOfOrder would be a fault of the boundary query, which numbers what it finds.
var errOutOfOrder = errors.New("the ends of sub-batches came out of order")
