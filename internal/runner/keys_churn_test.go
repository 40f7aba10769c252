package runner_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

// churn changes the table from a session of its own until ctx ends: it inserts and deletes rows with odd keys anywhere, and updates other columns
// of any row, each in a transaction of its own. It returns how many it made.
func churn(ctx context.Context, conn *pgx.Conn, r *rand.Rand, keys int) (transactions int, err error) {
	changes := []string{
		`INSERT INTO public.keys (id) VALUES (2 * $1::int + 1) ON CONFLICT DO NOTHING`,
		`DELETE FROM public.keys WHERE id = 2 * $1::int + 1`,
		`UPDATE public.keys SET pad = pad || 'x' WHERE id BETWEEN $1::int AND $1::int + 3`,
	}
	for ctx.Err() == nil {
		if _, err := conn.Exec(ctx, changes[r.IntN(len(changes))], r.IntN(keys)); err != nil {
			if ctx.Err() != nil {
				break
			}
			return transactions, err
		}
		transactions++
	}
	return transactions, nil
}

func TestRowsThatAreThereAllAlongAreChangedOnceWhileOthersChangeTheTable(t *testing.T) {
	for name, workers := range map[string]int{"by one worker": 1, "by three workers": 3} {
		t.Run(name, func(t *testing.T) {
			w := setup(t, 0)
			testChurn(t, w, workers)
		})
	}
}

func testChurn(t *testing.T, w *world, workers int) {
	const keys = 2000
	w.exec(`CREATE TABLE public.keys (id int PRIMARY KEY, pad text NOT NULL DEFAULT '', n int NOT NULL DEFAULT 0)`)
	w.exec(`INSERT INTO public.keys (id) SELECT 2 * g FROM generate_series(1, $1::int) AS g`, keys)
	w.exec(`INSERT INTO public.keys (id) SELECT 2 * g + 1 FROM generate_series(1, $1::int) AS g WHERE g % 3 = 0`, keys)
	w.exec(`UPDATE bbm.fleet_settings SET slots = $1`, workers)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var others errgroup.Group
	var made [2]int
	for i := range made {
		conn := dbtest.Connect(t, w.url)
		r := rand.New(rand.NewPCG(1, uint64(i)))
		others.Go(func() (err error) {
			made[i], err = churn(ctx, conn, r, keys)
			return err
		})
	}
	w.enqueue("count", "public.keys", 100, 7)
	w.exec(`UPDATE bbm.batched_background_migrations SET parallelism = $1`, workers)
	config := w.config()
	config.Workers = workers
	runCtx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, w.runner(config, counter(t, "public.keys", "id")).Run(runCtx))
	stop()
	require.NoError(t, others.Wait())
	for _, transactions := range made {
		require.Greater(t, transactions, 100, "the table was changed while the migration ran")
	}

	require.Equal(t, "finished", w.status("count"))
	require.Equal(t, keys, one[int](w, `SELECT count(*) FROM public.keys WHERE id % 2 = 0`))
	require.Zero(t, one[int](w, `SELECT count(*) FROM public.keys WHERE id % 2 = 0 AND n <> 1`), "rows not changed exactly once")
	require.Zero(t, one[int](w, `SELECT count(*) FROM public.keys WHERE n > 1`), "a row that came meanwhile was changed twice")
	dbtest.CheckHistory(t, w.conn, "count")
}
