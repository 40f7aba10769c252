package runner

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// pipeline sends several statements in one round trip, sqlc's among them. A generated method is called twice: on [pipeline.queue] it only leaves
// its text and arguments, on [pipeline.replay] it reads its typed result, in the same order.
type pipeline struct {
	batch   pgx.Batch
	results pgx.BatchResults
}

// queue is the receiver for generated methods before [pipeline.send]; what they return then means nothing.
func (p *pipeline) queue() dbgen.DBTX { return queueing{p} }

// replay is the receiver for generated methods after [pipeline.send].
func (p *pipeline) replay() dbgen.DBTX { return replaying{p} }

func (p *pipeline) send(ctx context.Context, conn *pgx.Conn) {
	p.results = conn.SendBatch(ctx, &p.batch)
}

// close reads what is left. It returns the first error that no reader has seen.
func (p *pipeline) close() error { return p.results.Close() }

type queueing struct{ p *pipeline }

func (q queueing) Exec(_ context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	q.p.batch.Queue(sql, args...)
	return pgconn.CommandTag{}, nil
}

func (q queueing) Query(_ context.Context, sql string, args ...any) (pgx.Rows, error) {
	q.p.batch.Queue(sql, args...)
	return nil, errors.ErrUnsupported // there are no rows yet
}

func (q queueing) QueryRow(_ context.Context, sql string, args ...any) pgx.Row {
	q.p.batch.Queue(sql, args...)
	return queuedRow{}
}

type queuedRow struct{}

func (queuedRow) Scan(...any) error { return nil }

type replaying struct{ p *pipeline }

func (r replaying) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return r.p.results.Exec()
}

func (r replaying) Query(context.Context, string, ...any) (pgx.Rows, error) {
	return r.p.results.Query()
}

func (r replaying) QueryRow(context.Context, string, ...any) pgx.Row { return r.p.results.QueryRow() }
