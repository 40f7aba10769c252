package schema_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/schema"
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

func TestTheStrictGateIsClosedWhileRowsAreLeftOut(t *testing.T) {
	w := setup(t)
	w.exec(`CREATE TABLE public.items (id bigint PRIMARY KEY)`)
	w.exec(`SELECT bbm.enqueue('count', 'public.items')`)
	w.exec(`SELECT bbm.assert_finished('count', strict => true)`)

	w.exec(`UPDATE bbm.batched_background_migrations SET quarantined_rows = 4`)
	w.exec(`SELECT bbm.assert_finished('count'), bbm.assert_finished('count', strict => false)`)
	for _, strict := range []string{"true", "NULL"} {
		refusal := w.refused(`SELECT bbm.assert_finished('count', strict => ` + strict + `)`)
		require.Equal(t, "55000", refusal.Code)
		require.Equal(t, `the batched background migration "count" is finished, but 4 of its rows are left out, in quarantine`, refusal.Message)
		require.Equal(t, "See: bbm-runner quarantine list count", refusal.Hint)
	}
	w.exec(`UPDATE bbm.batched_background_migrations SET status = 'active', finished_at = NULL`)
	require.Equal(t, `the batched background migration "count" is active, not finished`,
		w.refused(`SELECT bbm.assert_finished('count', strict => true)`).Message)
}

// upOf is the Up of one file.
func upOf(t *testing.T, name string) string {
	t.Helper()
	file, err := schema.FS.ReadFile(name)
	require.NoError(t, err)
	up, _, _ := strings.Cut(string(file), "-- +goose Down")
	return up
}

func TestWhoeverMayCallTheGateMayCallTheStrictOne(t *testing.T) {
	t.Parallel()
	name, _ := role(t)
	w := connected(t, dbtest.New(t))
	w.exec(`DROP FUNCTION bbm.assert_finished(text, boolean)`)
	w.exec(`GRANT EXECUTE ON FUNCTION bbm.assert_finished(text) TO ` + name)
	w.exec(upOf(t, "00009_assert_finished_strictly.sql"))
	require.True(t, one[bool](w, `SELECT has_function_privilege($1, 'bbm.assert_finished(text, boolean)', 'EXECUTE')`, name))
}

func TestWhatDependsOnAFunctionThatIsReplacedIsToldBeforeAnythingIsChanged(t *testing.T) {
	w := setupEmpty(t)
	w.exec(`CREATE SCHEMA bbm`)
	for _, name := range []string{
		"00001_create_migrations.sql", "00002_create_jobs.sql", "00003_create_transition_logs.sql", "00004_create_fleet_settings.sql",
		"00005_create_functions.sql", "00006_create_quarantined_rows.sql", "00007_create_verifications.sql",
	} {
		w.exec(upOf(t, name))
	}
	w.exec(`CREATE FUNCTION public.ours() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT bbm.enqueue('count', 'pg_class'); END`)
	refusal := w.refused(upOf(t, "00008_pin_row_set.sql"))
	require.Equal(t, "2BP01", refusal.Code)
	require.Contains(t, refusal.Message, "function ours()")
	require.False(t, one[bool](w, `SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'bbm.batched_background_migrations'::regclass AND attname = 'row_set')`))
	w.exec(`DROP FUNCTION public.ours()`)
	w.exec(upOf(t, "00008_pin_row_set.sql"))
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
		  AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS c WHERE c = 'search_path=pg_catalog, pg_temp')`), "temporary tables and types must come last")
	// Whoever calls one of these acts with its owner's rights. None takes a clock, an identifier or a
	// piece of SQL: see what each may be told in the tests of that function.
	require.Equal(t, []string{
		`bbm.forget_jobs(integer) {"search_path=pg_catalog, pg_temp"}`,
		`bbm.maintain_log(integer) {"search_path=pg_catalog, pg_temp"}`,
		`bbm.set(text,text,text,text) {"search_path=pg_catalog, pg_temp",IntervalStyle=postgres}`,
		`bbm.set_fleet(text,text,text) {"search_path=pg_catalog, pg_temp"}`,
	}, list[string](w, `
		SELECT p.oid::regprocedure::text || ' ' || p.proconfig::text
		FROM pg_proc AS p
		WHERE p.pronamespace = 'bbm'::regnamespace AND p.prosecdef
		ORDER BY p.oid::regprocedure::text COLLATE "C"`))
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
	require.Equal(t, "42501", limited.refused(`SELECT bbm.maintain_log(6)`).Code)
	w.exec(`GRANT EXECUTE ON FUNCTION bbm.maintain_log(integer) TO ` + name)
	made := w.months()
	w.exec(`DROP TABLE ` + logs + `_` + made[0])
	require.Equal(t, []string{"created " + made[0]}, list[string](limited, `SELECT action || ' ' || right(partition_name, 7) FROM bbm.maintain_log(6)`))
	require.Empty(t, list[string](limited, `SELECT action FROM bbm.maintain_log(6)`))
	require.Equal(t, "42501", limited.refused(maintained, "0", "2100-01-01").Code, "its clock and its retention are the owner's")
}

func TestEveryFunctionOfOursSaysWhatItDoes(t *testing.T) {
	w := setup(t)
	require.Empty(t, list[string](w, `
		SELECT p.oid::regprocedure::text
		FROM pg_proc AS p
		WHERE p.pronamespace = 'bbm'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL`))
}
