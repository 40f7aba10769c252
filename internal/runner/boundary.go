package runner

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/work"
)

// endpoint is where a job or a sub-batch ends, and how many rows its range held when it was looked at.
type endpoint struct {
	key  work.Key
	rows int64
}

// boundary finds the end of the next limit rows of a range, in a transaction of its own. Where fewer rows are left it is the range's own end. Its
// error is [ErrJobEndpointNotFound].
func (e *Executor) boundary(ctx context.Context, s *work.Statements, r work.Range, limit int) (end endpoint, err error) {
	var p pipeline
	p.batch.Queue("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY")
	p.queueBoundary(s, r, limit)
	p.batch.Queue("COMMIT")
	p.send(ctx, e.conn)
	defer func() {
		if closeErr := p.close(); err == nil && closeErr != nil {
			err = fmt.Errorf("%w: %w", ErrJobEndpointNotFound, closeErr)
		}
	}()
	if _, err := p.results.Exec(); err != nil {
		return endpoint{}, fmt.Errorf("%w: %w", ErrJobEndpointNotFound, err)
	}
	return p.readBoundary(r)
}

func (p *pipeline) queueBoundary(s *work.Statements, r work.Range, limit int) {
	sql, values := s.Boundary(r, limit)
	p.batch.Queue(work.StreamingPlans)
	p.batch.Queue(sql, values...)
}

func (p *pipeline) readBoundary(r work.Range) (endpoint, error) {
	var found endpoint
	var reachedEnd bool
	_, err := p.results.Exec()
	if err == nil {
		err = p.results.QueryRow().Scan(&found.key, &found.rows, &reachedEnd)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return endpoint{key: r.Until}, nil
	}
	if err != nil {
		return endpoint{}, fmt.Errorf("%w: %w", ErrJobEndpointNotFound, err)
	}
	return found, nil
}
