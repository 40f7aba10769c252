package runner_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/runner"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

const (
	benchmarkRows = 400_000
	// Jobs of a fortieth: a tenth of the table is four of them.
	benchmarkBatch    = benchmarkRows / 40
	benchmarkSubBatch = 1_000
)

// BenchmarkComposite compares a composite cursor over one large tenant with a plain one over the same rows, in jobs and transactions of the same sizes.
// Both run side by side: with one slot, the fleet takes their jobs in turn, so that whatever disturbs the machine disturbs both. Reported beside the time:
//
//	plain-ns/row, composite-ns/row   from the start of each job, the search for its end included, to its end
//	ratio                            composite over plain: at most 2 is claimed
//	plain-last/first, …              the cost of the last tenth of the jobs over that of the first: 1 is linear, and a cursor that reads the tenant
//	                                 from its beginning would show about 19
func BenchmarkComposite(b *testing.B) {
	url := dbtest.New(b)
	conn := dbtest.Connect(b, url)
	for _, sql := range []string{
		`UPDATE bbm.fleet_settings SET execution_enabled = true`,
		`CREATE TABLE public.plain (tenant_id int NOT NULL, id bigint NOT NULL, n int NOT NULL DEFAULT 0, PRIMARY KEY (id))`,
		`CREATE TABLE public.composite (tenant_id int NOT NULL, id bigint NOT NULL, n int NOT NULL DEFAULT 0, PRIMARY KEY (tenant_id, id))`,
		fmt.Sprintf(`INSERT INTO public.plain SELECT 7, g FROM generate_series(1, %d) AS g`, benchmarkRows),
		`INSERT INTO public.composite SELECT * FROM public.plain`,
		`VACUUM ANALYZE public.plain`,
		`VACUUM ANALYZE public.composite`,
	} {
		_, err := conn.Exec(b.Context(), sql)
		require.NoError(b, err, sql)
	}
	r := benchmarkRunner(b, url,
		benchmarkWork(b, "plain", "id"),
		benchmarkWork(b, "composite", "tenant_id, id"))

	var sums [2]cost
	b.ResetTimer()
	for round := range b.N {
		for _, name := range []string{"plain", "composite"} {
			_, err := conn.Exec(b.Context(), `SELECT bbm.enqueue($1, ('public.' || $1)::regclass, $1 || $2::int, batch_size => $3, sub_batch_size => $4)`,
				name, round, benchmarkBatch, benchmarkSubBatch)
			require.NoError(b, err)
		}
		require.NoError(b, r.Run(b.Context()))
		for i, name := range []string{"plain", "composite"} {
			sums[i].add(readCost(b, conn, fmt.Sprintf("%s%d", name, round)))
		}
	}
	b.StopTimer()
	plain, composite := sums[0], sums[1]
	b.ReportMetric(plain.perRow(), "plain-ns/row")
	b.ReportMetric(composite.perRow(), "composite-ns/row")
	b.ReportMetric(composite.perRow()/plain.perRow(), "ratio")
	b.ReportMetric(plain.lastTenth/plain.firstTenth, "plain-last/first")
	b.ReportMetric(composite.lastTenth/composite.firstTenth, "composite-last/first")
}

func benchmarkWork(b *testing.B, table, cursor string) *work.Work {
	b.Helper()
	w, err := work.Parse(table, fmt.Appendf(nil, "-- description: Count.\n-- table: public.%s\n-- cursor: %s\n\n-- +bbm Work\nUPDATE public.%s AS t SET n = n + 1 WHERE @batch(t)", table, cursor, table))
	require.NoError(b, err)
	return w
}

func benchmarkRunner(b *testing.B, url string, works ...*work.Work) *runner.Runner {
	b.Helper()
	registry, err := work.NewRegistry(works...)
	require.NoError(b, err)
	config, err := pgx.ParseConfig(url)
	require.NoError(b, err)
	r, err := runner.New(config, registry, runner.Config{
		Enabled: true, UntilIdle: true, PollInterval: 10 * time.Millisecond, Version: "test", Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(b, err)
	return r
}

// cost is what the jobs of a migration took, in seconds.
type cost struct{ rows, all, firstTenth, lastTenth float64 }

func (c cost) perRow() float64 { return c.all / c.rows * 1e9 }

func (c *cost) add(d cost) {
	c.rows += d.rows
	c.all += d.all
	c.firstTenth += d.firstTenth
	c.lastTenth += d.lastTenth
}

func readCost(b *testing.B, conn *pgx.Conn, name string) (c cost) {
	b.Helper()
	dbtest.CheckHistory(b, conn, name)
	err := conn.QueryRow(context.Background(), `
		SELECT sum(processed_rows), sum(seconds), sum(seconds) FILTER (WHERE tenth = 1), sum(seconds) FILTER (WHERE tenth = 10)
		FROM (
			SELECT j.processed_rows, extract(EPOCH FROM j.finished_at - j.started_at)::float8 AS seconds, ntile(10) OVER (ORDER BY j.id) AS tenth
			FROM bbm.batched_background_migration_jobs AS j
			JOIN bbm.batched_background_migrations AS m ON m.id = j.batched_background_migration_id
			WHERE m.name = $1
		) AS jobs`, name).Scan(&c.rows, &c.all, &c.firstTenth, &c.lastTenth)
	require.NoError(b, err)
	require.InDelta(b, benchmarkRows, c.rows, 0)
	return c
}
