package dbtest

import (
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/bbm-runner/bbm-runner/internal/localpg"
)

// setupRuns starts a server on which nobody has tested yet, and n runs on it at once.
func setupRuns(t *testing.T, n int) []*run {
	t.Helper()
	server, err := localpg.Start(t.Context(), localpg.Options{BinDir: os.Getenv(BinVariable), Settings: serverSettings})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })

	runs := make([]*run, n)
	var group errgroup.Group
	for i := range runs {
		group.Go(func() (err error) {
			runs[i], err = newRun(t.Context(), server.URL("postgres"))
			return err
		})
	}
	require.NoError(t, group.Wait())
	return runs
}

func databases(t *testing.T, r *run, prefix string) []string {
	t.Helper()
	conn := Connect(t, r.url)
	rows, err := conn.Query(t.Context(), "SELECT datname FROM pg_database WHERE starts_with(datname, $1) ORDER BY datname", prefix)
	require.NoError(t, err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return names
}

func TestRunsThatStartAtOnceShareOneTemplate(t *testing.T) {
	t.Parallel()
	runs := setupRuns(t, 4)
	require.Equal(t, []string{runs[0].template}, databases(t, runs[0], "bbm_template_"))
	for _, r := range runs {
		_, err := r.create(t.Context(), r.template)
		require.NoError(t, err)
	}
	require.Len(t, databases(t, runs[0], "bbm_test_"), 4)
}

func TestARunDropsWhatKilledRunsLeftAndNothingElse(t *testing.T) {
	t.Parallel()
	runs := setupRuns(t, 2)
	alive, killed := runs[0], runs[1]
	kept, err := alive.create(t.Context(), "template0")
	require.NoError(t, err)
	for range 2 {
		_, err = killed.create(t.Context(), "template0")
		require.NoError(t, err)
	}
	// The server notices a killed run by its connection.
	require.NoError(t, killed.close(t.Context()))
	require.Eventually(t, func() bool {
		next, err := newRun(t.Context(), alive.url)
		require.NoError(t, err)
		require.NoError(t, next.close(t.Context()))
		return len(databases(t, alive, "bbm_test_")) == 1
	}, time.Minute, 10*time.Millisecond)
	require.Equal(t, []string{kept}, databases(t, alive, "bbm_test_"))
}
