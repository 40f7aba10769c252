package cli

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/control"
)

const (
	// forever is how long a daemon waits for its database: whatever starts both need not know an
	// order.
	forever time.Duration = math.MaxInt64
	// untilIdleWait is the same for a run that somebody waits for.
	untilIdleWait = time.Minute
	// longestBackoff bounds the wait between two tries, which doubles.
	longestBackoff = 10 * time.Second
)

// withDatabase is withControl for a runner: a database that is not there yet, starts, stops or
// fails over is waited for, up to limit. What no wait mends (a wrong password, an unknown database,
// tables that are missing) is an error at once.
func (a *app) withDatabase(ctx context.Context, limit time.Duration, logger *slog.Logger, do func(*control.Control) error) error {
	began := time.Now()
	for backoff := connectBackoff; ; backoff = min(2*backoff, longestBackoff) {
		isLost := false
		err := a.withConn(ctx, func(conn *pgx.Conn) error {
			err := a.act(ctx, conn, nil, do)
			isLost = err != nil && conn.IsClosed()
			return err
		})
		var unreachable *unreachableError
		switch mayPass := isLost || errors.As(err, &unreachable) && unreachable.mayPass; {
		case err == nil || ctx.Err() != nil || !mayPass:
			return err
		case backoff > limit-time.Since(began):
			return &exitError{exitFailed, err} // nothing is wrong with what was asked for
		}
		logger.Warn("waiting for the database", "error", oneLine(err), "in", backoff)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(backoff):
		}
	}
}

// databaseWait is how long a run waits for its database at start.
func (a *app) databaseWait(untilIdle bool) time.Duration {
	switch {
	case a.config.WaitForDatabase != nil:
		return *a.config.WaitForDatabase
	case untilIdle:
		return untilIdleWait
	}
	return forever
}
