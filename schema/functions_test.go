package schema_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

func TestTheGateIsClosedUntilTheMigrationIsFinished(t *testing.T) {
	w := setup(t)
	w.exec(`CREATE TABLE public.items (id bigint PRIMARY KEY)`)
	w.exec(`INSERT INTO public.items VALUES (1)`)

	refusal := w.refused(`SELECT bbm.assert_finished('count')`)
	require.Equal(t, "42704", refusal.Code)
	require.Equal(t, `there is no batched background migration "count"`, refusal.Message)
	require.Equal(t, "42704", w.refused(`SELECT bbm.assert_finished(NULL)`).Code)

	w.exec(`SELECT bbm.enqueue('count', 'public.items')`)
	for _, status := range []string{"active", "running", "paused", "failed", "cancelled"} {
		w.exec(`UPDATE bbm.batched_background_migrations SET status = $1::text::bbm.migration_status, failure_error_code = 'invalid_work'`, status)
		refusal = w.refused(`SELECT bbm.assert_finished('count')`)
		require.Equal(t, "55000", refusal.Code)
		require.Equal(t, `the batched background migration "count" is `+status+`, not finished`, refusal.Message)
		require.Equal(t, "See: bbm-runner status count", refusal.Hint)
	}
	w.exec(`UPDATE bbm.batched_background_migrations SET status = 'finished', finished_at = now()`)
	w.exec(`SELECT bbm.assert_finished('count')`)
}

func TestPublicMayExecuteNothingOfOurs(t *testing.T) {
	w := setup(t)
	require.NotEmpty(t, list[string](w, `SELECT proname FROM pg_proc WHERE pronamespace = 'bbm'::regnamespace`))
	require.Empty(t, list[string](w, `
		SELECT p.oid::regprocedure::text
		FROM pg_proc AS p
		WHERE p.pronamespace = 'bbm'::regnamespace
		  AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a WHERE a.grantee = 0)`))
	require.Empty(t, list[string](w, `
		SELECT c.oid::regclass::text
		FROM pg_class AS c
		WHERE c.relnamespace = 'bbm'::regnamespace
		  AND EXISTS (SELECT FROM aclexplode(c.relacl) AS a WHERE a.grantee = 0)`))
}

func TestEveryFunctionPinsItsSearchPath(t *testing.T) {
	w := setup(t)
	require.Empty(t, list[string](w, `
		SELECT p.oid::regprocedure::text
		FROM pg_proc AS p
		WHERE p.pronamespace = 'bbm'::regnamespace
		  AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS c WHERE c IN ('search_path=pg_catalog', 'search_path=pg_catalog, pg_temp'))`))
	// Whoever calls one of these acts with its owner's rights: a temporary object must come last.
	require.Equal(t, []string{"bbm.maintain_log_partitions(interval,timestamp with time zone) {\"search_path=pg_catalog, pg_temp\",lock_timeout=1s,TimeZone=UTC}"}, list[string](w, `
		SELECT p.oid::regprocedure::text || ' ' || p.proconfig::text
		FROM pg_proc AS p
		WHERE p.pronamespace = 'bbm'::regnamespace AND p.prosecdef`))
}

// grantAll gives a role what a runner and an operator need of our tables and functions, but for ownership.
func (w *world) grantAll(role string) {
	w.t.Helper()
	w.exec(`GRANT USAGE ON SCHEMA bbm TO ` + role)
	w.exec(`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA bbm TO ` + role)
	w.exec(`GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA bbm TO ` + role)
}

func TestARoleThatOwnsNothingMaintainsThePartitions(t *testing.T) {
	t.Parallel()
	name, in := role(t)
	w := connected(t, dbtest.New(t))
	limited := connected(t, in(w.url))
	w.exec(`GRANT USAGE ON SCHEMA bbm TO ` + name)
	require.Equal(t, "42501", limited.refused(maintained, "6 months", "2031-11-15Z").Code)
	w.grantAll(name)
	require.Contains(t, limited.maintain("6 months", "2031-11-15Z"), "created 2031_11")
}
