package runner_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// leaker has a work whose function does something to its session in each batch, and returns it.
func (w *world) leaker(name, statements string) *work.Work {
	w.t.Helper()
	w.exec(fmt.Sprintf(`CREATE TABLE public.%[1]s (LIKE public.items INCLUDING ALL); INSERT INTO public.%[1]s SELECT * FROM public.items;
		CREATE FUNCTION public.%[1]s() RETURNS int LANGUAGE plpgsql AS $f$ BEGIN %[2]s; RETURN 1; END $f$`, name, statements))
	return parse(w.t, name, strings.NewReplacer("public.items", "public."+name, "n + 1", "n + (SELECT public."+name+"())").Replace(increment))
}

// settled are settings of a session as one work finds them, and what else a session may hold.
const settled = `SELECT string_agg(DISTINCT concat_ws(' ', current_setting('TimeZone'), current_setting('DateStyle'), current_setting('statement_timeout'),
	current_setting('synchronous_commit'), current_setting('work_mem'), current_setting('bbm_test.tenant', true), current_user::text,
	pg_my_temp_schema() <> 0 AND EXISTS (SELECT FROM pg_class WHERE relnamespace = pg_my_temp_schema()),
	(SELECT count(*) FROM pg_listening_channels()), (SELECT count(*) FROM pg_cursors WHERE is_holdable), (SELECT count(*) FROM pg_prepared_statements WHERE from_sql)), '; ')`

const leaks = `PERFORM set_config('TimeZone', 'Asia/Tokyo', false), set_config('DateStyle', 'SQL, DMY', false), set_config('statement_timeout', '59s', false),
	set_config('synchronous_commit', 'off', false), set_config('work_mem', '64kB', false), set_config('bbm_test.tenant', 'a', false);
	CREATE TEMPORARY TABLE IF NOT EXISTS left_over (n int);
	LISTEN left_over;
	IF NOT EXISTS (SELECT FROM pg_prepared_statements WHERE name = 'left over') THEN EXECUTE 'PREPARE "left over" AS SELECT 1'; END IF;
	IF NOT EXISTS (SELECT FROM pg_cursors WHERE name = 'left_over') THEN EXECUTE 'DECLARE left_over CURSOR WITH HOLD FOR SELECT 1'; END IF`

func TestWhatAWorksFunctionSetsInItsSessionReachesNoOtherWork(t *testing.T) {
	w := setup(t, 60)
	leaking := w.leaker("leaking", leaks)
	w.exec(`ALTER TABLE public.items ADD COLUMN found text`)
	count := parse(t, "count", strings.Replace(increment, "n + 1", "n + 1, found = ("+settled+")", 1))
	for _, name := range []string{"leaking", "items"} {
		w.enqueue(map[string]string{"leaking": "leaking", "items": "count"}[name], "public."+name, 10, 5)
	}
	require.NoError(t, w.runUntilIdle(leaking, count))
	w.eachOnce("count")
	require.Equal(t, "finished", w.status("leaking"))
	who := one[string](w, `SELECT current_user::text`)
	require.Equal(t, "UTC ISO, YMD 1min on "+one[string](w, `SHOW work_mem`)+" "+who+" f 0 0 0",
		strings.ReplaceAll(one[string](w, `SELECT string_agg(DISTINCT found, '; ') FROM public.items`), "  ", " "))
}

func TestASettingThatAWorksFunctionChangesIsSetAgainBeforeTheNextStatementAndNamed(t *testing.T) {
	w := setup(t, 40)
	w.exec(`CREATE TABLE public.seen (zone text, path text, style text)`)
	leaking := w.leaker("leaking", `INSERT INTO public.seen VALUES (current_setting('TimeZone'), current_setting('search_path'), current_setting('DateStyle'));
		PERFORM set_config('TimeZone', 'Asia/Tokyo', false), set_config('search_path', 'nowhere', false), set_config('DateStyle', 'SQL, DMY', false)`)
	w.enqueue("leaking", "public.leaking", 20, 5)
	require.NoError(t, w.runUntilIdle(leaking))
	require.Equal(t, "finished", w.status("leaking"))
	require.Equal(t, 8, one[int](w, `SELECT count(*) FROM public.seen`))
	require.Equal(t, 8, one[int](w, `SELECT count(*) FROM public.seen WHERE zone = 'UTC' AND path LIKE 'pg_catalog%' AND style = 'ISO, YMD'`))
	const warning = "a setting of the session was changed by the work"
	require.Contains(t, w.log.String(), warning)
	for line := range strings.Lines(w.log.String()) {
		if strings.Contains(line, warning) {
			assert.Contains(t, line, "level=WARN")
			assert.Contains(t, line, "DateStyle")
			assert.Contains(t, line, "TimeZone")
			assert.Contains(t, line, "migration=leaking")
		}
	}
	require.Equal(t, 2, w.counted(warning), "once for each job")
}

func TestWhatAWorkSetsForItsTransactionAloneIsNoConcernOfOurs(t *testing.T) {
	w := setup(t, 20)
	local := w.leaker("local", `PERFORM set_config('TimeZone', 'Asia/Tokyo', true), set_config('lock_timeout', '3s', true), set_config('synchronous_commit', 'off', true)`)
	w.enqueue("local", "public.local", 20, 5)
	require.NoError(t, w.runUntilIdle(local))
	require.Equal(t, "finished", w.status("local"))
	require.NotContains(t, w.log.String(), "a setting of the session was changed")
}

func TestARoleThatAWorksFunctionTakesIsGivenUpBeforeTheProgressIsWritten(t *testing.T) {
	w, role := setupRole(t)
	w.exec(`CREATE ROLE ` + role + `_other; GRANT ` + role + `_other TO ` + role)
	keeper := dbtest.Connect(t, dbtest.NewEmpty(t))
	t.Cleanup(func() {
		_, err := keeper.Exec(context.Background(), `DROP ROLE `+role+`_other`)
		assert.NoError(t, err)
	})
	w.exec(`CREATE FUNCTION public.become() RETURNS int LANGUAGE plpgsql AS $f$ BEGIN SET ROLE ` + role + `_other; RETURN 1; END $f$`)
	w.countEach(parse(t, "count", "-- description: d\n-- table: public.keys\n-- cursor: at, day, id\n\n-- +bbm Work\n"+
		"UPDATE public.keys AS k SET n = n + 1 WHERE @batch(k) AND (SELECT public.become()) = 1"))
	w.noAttempt()
}

func TestASessionThatHoldsAWorksAdvisoryLockEndsAndTheNextGoesOn(t *testing.T) {
	w := setup(t, 20)
	locking := w.leaker("locking", `PERFORM pg_advisory_lock(4711)`)
	w.enqueue("locking", "public.locking", 10, 5)
	stop := w.start(w.runner(w.daemon(), locking))
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	w.eventually(`SELECT NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`)
	require.NoError(t, stop())
	require.Contains(t, w.log.String(), "pg_advisory_xact_lock")
	require.Zero(t, one[int](w, `SELECT count(*) FROM public.locking WHERE n <> 1`))
	w.noAttempt()
}

func TestTheServersViewNamesTheMigrationThatIsExecuted(t *testing.T) {
	w := setup(t, 20)
	w.exec(`CREATE TABLE public.seen (name text)`)
	const name = "naming, with a name that is far too long for the server's view of activity"
	naming := w.leaker("naming", `INSERT INTO public.seen SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()`)
	w.exec(`SELECT bbm.enqueue('naming', 'public.naming', $1::text, batch_size => 10, sub_batch_size => 5)`, name)
	far := *w
	far.url = strings.Replace(w.url, "?", "?application_name=shop&", 1)
	stop, also := w.start(w.runner(w.daemon(), naming)), w.start(far.runner(w.daemon(), naming))
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	w.eventually(`SELECT array_agg(application_name ORDER BY application_name) = '{bbm-runner,shop}' FROM pg_stat_activity
		WHERE datname = current_database() AND application_name IN ('bbm-runner', 'shop') AND backend_type = 'client backend'`)
	require.NoError(t, stop())
	require.NoError(t, also())
	for _, seen := range one[[]string](w, `SELECT array_agg(DISTINCT name) FROM public.seen`) {
		require.Contains(t, []string{("bbm-runner " + name)[:63], ("shop " + name)[:63]}, seen)
	}
}
