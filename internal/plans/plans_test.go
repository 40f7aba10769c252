package plans_test

import (
	"context"
	"os"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/plans"
)

const root = "../.."

func TestMain(m *testing.M) { dbtest.Main(m) }

// setup returns a connection to a database with the small seed, and every query.
func setup(t *testing.T) (*pgx.Conn, []plans.Query) {
	t.Helper()
	conn, err := plans.Connect(t.Context(), dbtest.New(t))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	require.NoError(t, plans.Seed(t.Context(), conn, plans.Small))
	queries, err := plans.ReadQueries(root)
	require.NoError(t, err)
	return conn, queries
}

func major(t *testing.T, conn *pgx.Conn) (version int) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT current_setting('server_version_num')::integer / 10000").Scan(&version))
	return version
}

// The gate. One seed serves all its parts.
func TestPlans(t *testing.T) {
	t.Parallel()
	conn, queries := setup(t)
	committed, err := plans.ReadFiles(plans.Dir(root))
	require.NoError(t, err)

	t.Run("every query has a plan, and every plan a query", func(t *testing.T) {
		names := make(map[string]string)
		for _, q := range queries {
			names[q.Name+".txt"] = committed[q.Name+".txt"]
		}
		require.Empty(t, plans.Differences(names, committed), "run make plans")
		for name, text := range names {
			assert.NotEmpty(t, text, "%s: run make plans", name)
		}
	})
	t.Run("the small seed yields the committed plans", func(t *testing.T) {
		if version := major(t, conn); version != plans.Major {
			t.Skipf("the committed plans are of PostgreSQL %d; on %d the rules alone hold", plans.Major, version)
		}
		present, err := plans.RenderAll(t.Context(), conn, queries)
		require.NoError(t, err)
		for name, text := range present {
			assert.Equal(t, committed[name], text, "the plan in %s has changed; where that is meant, run make plans", name)
		}
	})
	t.Run("every plan keeps the rules", func(t *testing.T) {
		// A session plans for the values at hand until it settles for the generic plan.
		violations := append(judgeAll(t, conn, queries, plans.ExplainTree), judgeAll(t, conn, queries, plans.ExplainHeavy)...)
		unexcused, unneeded := plans.Excuse(violations)
		for _, v := range unexcused {
			assert.Fail(t, v.String())
		}
		for _, e := range unneeded {
			assert.Fail(t, "this exception is not needed any more: "+e.String())
		}
	})
	t.Run("the gate notices an index that is gone", func(t *testing.T) { testDroppedIndexes(t, conn, queries) })
}

type explainer func(context.Context, *pgx.Conn, plans.Query) (*plans.Node, error)

func judgeAll(t *testing.T, conn *pgx.Conn, queries []plans.Query, explain explainer) (violations []plans.Violation) {
	t.Helper()
	catalog, err := plans.ReadCatalog(t.Context(), conn)
	require.NoError(t, err)
	for _, q := range queries {
		tree, err := explain(t.Context(), conn, q)
		require.NoError(t, err)
		violations = append(violations, plans.Judge(q, tree, catalog)...)
	}
	return violations
}

// testDroppedIndexes drops each index in a transaction that is rolled back, and expects that the rules alone fail for the query it serves.
func testDroppedIndexes(t *testing.T, conn *pgx.Conn, queries []plans.Query) {
	const jobs, logs = "bbm.batched_background_migration_jobs", "bbm.batched_background_migration_job_transition_logs"
	for _, c := range []struct {
		drop, query string
	}{
		{"ALTER TABLE " + jobs + " DROP CONSTRAINT batched_background_migration_jobs_pkey CASCADE", "JobFence"},
		{"DROP INDEX " + jobs + "_waiting_idx", "JobClaim"},
		{"DROP INDEX " + jobs + "_unsucceeded_idx", "MigrationFinish"},
		{"DROP INDEX " + jobs + "_running_slot_idx", "JobRecover"},
		{"DROP INDEX " + jobs + "_migration_idx", "JobList"},
		{"DROP INDEX " + logs + "_job_idx", "JobLogList"},
	} {
		tx, err := conn.Begin(t.Context())
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), c.drop)
		require.NoError(t, err)
		unexcused, _ := plans.Excuse(judgeAll(t, conn, queries, plans.ExplainTree))
		isNoticed := slices.ContainsFunc(unexcused, func(v plans.Violation) bool { return v.Query == c.query })
		assert.True(t, isNoticed, "after %s the rules should fail for %s; they fail for: %v", c.drop, c.query, unexcused)
		require.NoError(t, tx.Rollback(t.Context()))
	}
}

// The small seed is right only as long as it yields the plans of the large one. Loading that takes minutes, so this is not part of every run.
func TestTheSmallSeedYieldsThePlansOfTheLargeOne(t *testing.T) {
	if os.Getenv("BBM_PLANS_LARGE") == "" {
		t.Skip("set BBM_PLANS_LARGE=1 (make plans-check): it needs 10 GB of disk, and minutes when it loads")
	}
	t.Parallel()
	cluster, err := plans.OpenCluster(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Close()) })
	queries, err := plans.ReadQueries(root)
	require.NoError(t, err)
	render := func(name string, scale plans.Scale) map[string]string {
		url, err := cluster.Database(t.Context(), name, scale)
		require.NoError(t, err)
		conn, err := plans.Connect(t.Context(), url)
		require.NoError(t, err)
		defer func() { _ = conn.Close(t.Context()) }()
		files, err := plans.RenderAll(t.Context(), conn, queries)
		require.NoError(t, err)
		return files
	}
	large, small := render("large", plans.Large), render("small", plans.Small)
	for name := range large {
		assert.Equal(t, large[name], small[name], name)
	}
}
