package runner

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/work"
)

// querier is a connection or a transaction.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// endpoint is where a job or a sub-batch ends, and how many rows its range held when it was looked at.
type endpoint struct {
	key  work.Key
	rows int64
}

// boundary finds the end of the next limit rows of a range. Where fewer are left it is the range's own end.
func (e *Executor) boundary(ctx context.Context, q querier, s *work.Statements, r work.Range, limit int) (endpoint, error) {
	sql, values := s.Boundary(r, limit)
	return scanEndpoint(q.QueryRow(ctx, sql, values...), r)
}

func scanEndpoint(row pgx.Row, r work.Range) (endpoint, error) {
	var found endpoint
	var reachedEnd bool
	err := row.Scan(&found.key, &found.rows, &reachedEnd)
	if errors.Is(err, pgx.ErrNoRows) {
		return endpoint{key: r.Until}, nil
	}
	if err != nil {
		return endpoint{}, fmt.Errorf("%w: %w", ErrJobEndpointNotFound, err)
	}
	if reachedEnd {
		found.key = r.Until
	}
	return found, nil
}
