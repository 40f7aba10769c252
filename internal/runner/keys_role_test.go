package runner_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/runner"
)

// setupRole makes a world with the table public.keys, whose runner connects as a role of its own with the rights that a runner needs, and no more.
func setupRole(t *testing.T) (w *world, role string) {
	t.Helper()
	role = fmt.Sprintf("bbm_test_role_%d_%d", os.Getpid(), time.Now().UnixNano())
	// A database that outlives the role: where the role has rights it cannot be dropped, and it must be gone in the end.
	keeper := dbtest.Connect(t, dbtest.NewEmpty(t))
	_, err := keeper.Exec(t.Context(), fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD 'secret'`, role))
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := keeper.Exec(context.Background(), `DROP ROLE `+role)
		assert.NoError(t, err)
	})
	w = setup(t, 0)
	w.exec(`GRANT USAGE ON SCHEMA bbm TO ` + role)
	w.exec(`GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA bbm TO ` + role)
	w.exec(`GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA bbm TO ` + role)
	w.exec(`CREATE TABLE public.keys (at timestamptz, day date, id numeric, label text NOT NULL DEFAULT 'é', n int NOT NULL DEFAULT 0, settings text, PRIMARY KEY (at, day, id))`)
	w.exec(`INSERT INTO public.keys SELECT v::timestamptz, (v::date - g)::date, g / 4.0
		FROM unnest('{infinity, 0044-03-15 12:00:00.000001 BC, 1883-11-18 12:03:57Z, 2031-02-03 04:05:06.789Z}'::text[]) AS v, generate_series(1, 100) AS g`)
	w.exec(`GRANT SELECT, UPDATE ON public.keys TO ` + role)
	u, err := url.Parse(w.url)
	require.NoError(t, err)
	u.User = url.UserPassword(role, "secret")
	w.url = u.String()
	return w, role
}

// pinned are the settings that decide what a key or a statement means, or whether a transaction may go on.
const pinned = `SELECT string_agg(s || '=' || current_setting(s), ' ') FROM unnest('{DateStyle,IntervalStyle,TimeZone,extra_float_digits,search_path,client_encoding,standard_conforming_strings,row_security,transaction_isolation,transaction_read_only,statement_timeout,lock_timeout}'::text[]) AS s`

func TestARolesDefaultsChangeNothing(t *testing.T) {
	w, role := setupRole(t)
	w.exec(`CREATE SCHEMA evil`)
	w.exec(`CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT '-infinity'::timestamptz $$`)
	w.exec(`CREATE DOMAIN evil.text AS pg_catalog.int4`)
	w.exec(`GRANT USAGE ON SCHEMA evil TO ` + role)
	for setting, value := range map[string]string{
		"DateStyle": "SQL, DMY", "IntervalStyle": "sql_standard", "TimeZone": "Asia/Kathmandu", "extra_float_digits": "-15", "search_path": "evil, pg_catalog, public",
		"client_encoding": "LATIN1", "standard_conforming_strings": "off", "bytea_output": "escape", "row_security": "on",
		"default_transaction_isolation": "serializable", "default_transaction_deferrable": "on", "synchronous_commit": "off",
		"statement_timeout": "1234567", "lock_timeout": "1234567", "idle_in_transaction_session_timeout": "1234567",
		"enable_indexscan": "off", "enable_indexonlyscan": "off", "plan_cache_mode": "force_generic_plan",
	} {
		w.exec(fmt.Sprintf(`ALTER ROLE %s SET %s = '%s'`, role, setting, value))
		if setting == "search_path" {
			w.exec(fmt.Sprintf(`ALTER ROLE %s SET search_path = evil, pg_catalog, public`, role))
		}
	}
	count := parse(t, "count", `-- description: Count, and tell what with.
-- table: public.keys
-- cursor: at, day, id

-- +bbm Work
UPDATE public.keys AS k SET n = n + 1, settings = (`+pinned+`), label = k.label || '日本 \' WHERE @batch(k)`)
	w.countEach(count)
	assert.Equal(t, `DateStyle=ISO, YMD IntervalStyle=postgres TimeZone=UTC extra_float_digits=1 search_path=pg_catalog, pg_temp client_encoding=UTF8 standard_conforming_strings=on`+
		` row_security=off transaction_isolation=read committed transaction_read_only=off statement_timeout=1min lock_timeout=500ms`,
		one[string](w, `SELECT string_agg(DISTINCT settings, '; ') FROM public.keys`))
	assert.Equal(t, `é日本 \`, one[string](w, `SELECT string_agg(DISTINCT label, '; ') FROM public.keys`))
}

func TestRowsThatAPolicyHidesAreNotSkipped(t *testing.T) {
	w, role := setupRole(t)
	w.enqueue("count", "public.keys", 50, 7)
	w.exec(`ALTER TABLE public.keys ENABLE ROW LEVEL SECURITY`)
	w.exec(`CREATE POLICY half ON public.keys TO ` + role + ` USING (day < '2000-01-01')`)
	var failed *runner.MigrationsFailedError
	require.ErrorAs(t, w.runUntilIdle(counter(t, "public.keys", "at, day, id")), &failed)
	require.Contains(t, one[string](w, `SELECT failure_message FROM bbm.batched_background_migrations`), "row-level security")
	require.Zero(t, one[int](w, `SELECT sum(n) FROM public.keys`))
	dbtest.CheckHistory(t, w.conn, "count")

	t.Run("nor those of a policy that comes while it runs", func(t *testing.T) {
		w, role := setupRole(t)
		w.enqueue("count", "public.keys", 50, 1)
		w.exec(`CREATE POLICY half ON public.keys TO ` + role + ` USING (day < '2000-01-01')`)
		stop := w.start(w.runner(w.daemon(), counter(t, "public.keys", "at, day, id")))
		w.eventually(`SELECT EXISTS (SELECT FROM public.keys WHERE n = 1)`)
		w.exec(`ALTER TABLE public.keys ENABLE ROW LEVEL SECURITY`)
		w.eventually(`SELECT status = 'failed' OR on_hold_until > now() FROM bbm.batched_background_migrations`)
		require.NoError(t, stop())
		require.Contains(t, one[string](w, `SELECT coalesce(failure_message, hold_reason) FROM bbm.batched_background_migrations`), "row-level security")
		require.True(t, one[bool](w, `SELECT bool_and((n = 1) = (row_number <= changed)) FROM (
			SELECT n, row_number() OVER (ORDER BY at, day, id), sum(n) OVER () AS changed FROM public.keys) AS k`), "no row before the progress was skipped")
		dbtest.CheckHistory(t, w.conn, "count")
	})
}

// One migration that cannot go on must not keep the others waiting.
func TestAMigrationThatTheRoleMayNotTouchKeepsNoOtherFromRunning(t *testing.T) {
	w, _ := setupRole(t)
	w.exec(`CREATE TABLE public.closed (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0)`)
	w.exec(`INSERT INTO public.closed SELECT g FROM generate_series(1, 10) AS g`)
	closed := parse(t, "closed", "-- description: d\n-- table: public.closed\n-- cursor: id\n-- +bbm Work\nUPDATE public.closed AS c SET n = n + 1 WHERE @batch(c)")
	open := counter(t, "public.keys", "at, day, id")
	w.enqueue("closed", "public.closed", 10, 10)
	// As enqueued by a role that may touch the table: pinned already.
	w.exec(`UPDATE bbm.batched_background_migrations SET work_checksum = $1, cursor_columns = '{id}'`, closed.Checksum())
	w.enqueue("count", "public.keys", 100, 100)
	stop := w.start(w.runner(w.daemon(), closed, open))
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations WHERE name = 'count'`)
	require.NoError(t, stop())
	dbtest.CheckHistory(t, w.conn, "count")
	require.NotEqual(t, "finished", w.status("closed"))
}
