package runner_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/runner"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// tripCounter counts what is sent and waited for: statements alone, batches and preparations.
type tripCounter struct{ trips atomic.Int64 }

func (c *tripCounter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.trips.Add(1)
	return ctx
}
func (c *tripCounter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c *tripCounter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	c.trips.Add(1)
	return ctx
}
func (c *tripCounter) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (c *tripCounter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

func (c *tripCounter) TracePrepareStart(ctx context.Context, _ *pgx.Conn, _ pgx.TracePrepareStartData) context.Context {
	c.trips.Add(1)
	return ctx
}
func (c *tripCounter) TracePrepareEnd(context.Context, *pgx.Conn, pgx.TracePrepareEndData) {}

// trips runs a migration of that many jobs, of that many sub-batches each, and counts the round trips of the whole run.
func trips(t *testing.T, jobs, subBatches int) int {
	w := setup(t, jobs*subBatches*2)
	w.enqueue("count", "public.items", subBatches*2, 2)
	counter := &tripCounter{}
	connConfig, err := pgx.ParseConfig(w.url)
	require.NoError(t, err)
	connConfig.Tracer = counter
	registry, err := work.NewRegistry(parse(t, "count", increment))
	require.NoError(t, err)
	r, err := runner.New(connConfig, registry, w.config())
	require.NoError(t, err)
	require.NoError(t, r.Run(w.ctx))
	w.eachOnce("count")
	return int(counter.trips.Load())
}

func TestASubBatchTakesTwoRoundTripsAndAJobThreeMore(t *testing.T) {
	t.Parallel()
	const few, many = 20, 60
	var base, longer, more int
	t.Run("runs", func(t *testing.T) {
		t.Run("few jobs", func(t *testing.T) { base = trips(t, few, 5) })
		t.Run("longer jobs", func(t *testing.T) { longer = trips(t, few, 15) })
		t.Run("more jobs", func(t *testing.T) { more = trips(t, many, 5) })
	})
	// What a run costs besides (connecting, preparing, polling until idle) is the same in all, but for a poll or two.
	const slack = 8
	perSubBatch := (longer - base + slack/2) / (few * 10)
	perJob := (more - base - (many-few)*5*2 + slack/2) / (many - few)
	require.LessOrEqual(t, perSubBatch, 2, "%d round trips for %d sub-batches more", longer-base, few*10)
	require.LessOrEqual(t, perJob, 3, "%d round trips for %d jobs more", more-base, many-few)
}
