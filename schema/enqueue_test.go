package schema_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

// setupItems has a table of three rows beside the schema.
func setupItems(t *testing.T) *world {
	t.Helper()
	w := setup(t)
	w.exec(`CREATE TABLE public.items (id bigint PRIMARY KEY)`)
	w.exec(`INSERT INTO public.items VALUES (1), (2), (3)`)
	return w
}

func (w *world) status(name string) string {
	w.t.Helper()
	return one[string](w, `SELECT status::text FROM bbm.batched_background_migrations WHERE name = $1`, name)
}

func TestEnqueueCreatesAMigrationAndLogsIt(t *testing.T) {
	w := setupItems(t)
	require.Equal(t, "count", one[string](w, `SELECT bbm.enqueue('count', 'public.items')`))
	require.Equal(t, "June's", one[string](w, `
		SELECT bbm.enqueue('count', 'public.items', 'June''s', '{"domain": "example.org"}', batch_size => 100, sub_batch_size => 10)`))
	require.Equal(t, []string{
		`count, count, {}, public.items, NULL, NULL, active, <NULL>`,
		`June's, count, {"domain": "example.org"}, public.items, 100, 10, active, <NULL>`,
	}, list[string](w, `
		SELECT concat_ws(', ', m.name, m.work_name, m.arguments, m.table_name, coalesce(m.batch_size::text, 'NULL'), coalesce(m.sub_batch_size::text, 'NULL'),
			t.next_status, '<' || coalesce(t.previous_status::text, 'NULL') || '>')
		FROM bbm.batched_background_migrations AS m
		JOIN bbm.batched_background_migration_transition_logs AS t ON t.batched_background_migration_id = m.id
		WHERE t.changed_by = session_user AND m.enqueued_by = session_user AND m.status = 'active'
		ORDER BY m.id`))
}

func TestTheTargetIsNamedAsSQLNeedsIt(t *testing.T) {
	w := setup(t)
	w.exec(`CREATE SCHEMA "Odd ""Schema"".x"`)
	w.exec(`CREATE TABLE "Odd ""Schema"".x"."T; --" (id int PRIMARY KEY)`)
	w.exec(`INSERT INTO "Odd ""Schema"".x"."T; --" VALUES (1)`)
	w.exec(`SELECT bbm.enqueue('count', '"Odd ""Schema"".x"."T; --"')`)
	require.Equal(t, `"Odd ""Schema"".x"."T; --"`, one[string](w, `SELECT table_name FROM bbm.batched_background_migrations`))
}

func TestEnqueueRefusesAndChangesNothing(t *testing.T) {
	w := setupItems(t)
	// No library behind it: what counts is what the catalog says of the table.
	w.exec(`CREATE FOREIGN DATA WRAPPER nowhere`)
	w.exec(`CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere`)
	w.exec(`CREATE FOREIGN TABLE public.far (id int) SERVER nowhere`)
	w.exec(`CREATE VIEW public.seen AS SELECT id FROM public.items`)
	w.exec(`CREATE MATERIALIZED VIEW public.kept AS SELECT id FROM public.items`)
	w.exec(`CREATE SEQUENCE public.counter`)
	w.exec(`SELECT bbm.enqueue('count', 'public.items', 'taken', '{"a": "1"}')`)
	w.exec(`CREATE TABLE public.others (id bigint PRIMARY KEY)`)
	before := list[string](w, `SELECT m::text FROM bbm.batched_background_migrations AS m`)

	for name, tc := range map[string]struct{ call, code, message string }{
		"no target":               {`SELECT bbm.enqueue('count', NULL)`, "22004", "must not be null"},
		"a target that is gone":   {`SELECT bbm.enqueue('count', 4000000000::oid::regclass)`, "42809", "4000000000 is not a table"},
		"an unknown target":       {`SELECT bbm.enqueue('count', 'public.missing')`, "42P01", "does not exist"},
		"a view":                  {`SELECT bbm.enqueue('count', 'public.seen')`, "42809", "public.seen is not a table"},
		"a materialized view":     {`SELECT bbm.enqueue('count', 'public.kept')`, "42809", "public.kept is not a table"},
		"a sequence":              {`SELECT bbm.enqueue('count', 'public.counter')`, "42809", "is not a table"},
		"an index":                {`SELECT bbm.enqueue('count', 'public.items_pkey')`, "42809", "is not a table"},
		"a foreign table":         {`SELECT bbm.enqueue('count', 'public.far')`, "42809", "public.far is not a table"},
		"no work":                 {`SELECT bbm.enqueue(NULL, 'public.items', 'x')`, "22023", "name of the work"},
		"an empty work":           {`SELECT bbm.enqueue('', 'public.items', 'x')`, "22023", "name of the work"},
		"an empty name":           {`SELECT bbm.enqueue('count', 'public.items', '')`, "22023", "the name must have"},
		"a long name":             {`SELECT bbm.enqueue('count', 'public.items', repeat('ü', 101))`, "22023", "the name must have"},
		"a name with a tab":       {`SELECT bbm.enqueue('count', 'public.items', E'a\tb')`, "22023", "control character"},
		"an array of arguments":   {`SELECT bbm.enqueue('count', 'public.items', arguments => '[1]')`, "22023", "must be a JSON object"},
		"a scalar of arguments":   {`SELECT bbm.enqueue('count', 'public.items', arguments => '"x"')`, "22023", "must be a JSON object"},
		"JSON's null":             {`SELECT bbm.enqueue('count', 'public.items', arguments => 'null')`, "22023", "must be a JSON object"},
		"a batch of none":         {`SELECT bbm.enqueue('count', 'public.items', batch_size => 0)`, "22023", "batch size must be"},
		"a negative batch":        {`SELECT bbm.enqueue('count', 'public.items', batch_size => -1)`, "22023", "batch size must be"},
		"a batch beyond int4":     {`SELECT bbm.enqueue('count', 'public.items', batch_size => 2147483648)`, "42883", "does not exist"},
		"a sub-batch of none":     {`SELECT bbm.enqueue('count', 'public.items', sub_batch_size => 0)`, "22023", "sub-batch size"},
		"a sub-batch above it":    {`SELECT bbm.enqueue('count', 'public.items', batch_size => 10, sub_batch_size => 11)`, "22023", "sub-batch size"},
		"taken: another work":     {`SELECT bbm.enqueue('other', 'public.items', 'taken', '{"a": "1"}')`, "42710", `"taken" is taken`},
		"taken: another table":    {`SELECT bbm.enqueue('count', 'public.others', 'taken', '{"a": "1"}')`, "42710", `"taken" is taken`},
		"taken: other arguments":  {`SELECT bbm.enqueue('count', 'public.items', 'taken', '{"a": "2"}')`, "42710", `"taken" is taken`},
		"taken: no arguments":     {`SELECT bbm.enqueue('count', 'public.items', 'taken')`, "42710", `"taken" is taken`},
		"taken: more arguments":   {`SELECT bbm.enqueue('count', 'public.items', 'taken', '{"a": "1", "b": "1"}')`, "42710", `"taken" is taken`},
		"taken: a null argument":  {`SELECT bbm.enqueue('count', 'public.items', 'taken', '{"a": null}')`, "42710", `"taken" is taken`},
		"taken: another argument": {`SELECT bbm.enqueue('count', 'public.items', 'taken', '{"b": "1"}')`, "42710", `"taken" is taken`},
	} {
		refusal := w.refused(tc.call)
		assert.Equal(t, tc.code, refusal.Code, "%s: %s", name, refusal.Message)
		assert.Contains(t, refusal.Message, tc.message, name)
	}
	require.Equal(t, before, list[string](w, `SELECT m::text FROM bbm.batched_background_migrations AS m`))
	require.Equal(t, 1, one[int](w, `SELECT count(*) FROM bbm.batched_background_migration_transition_logs`))
}

func TestTheSameDefinitionAgainChangesNothing(t *testing.T) {
	w := setupItems(t)
	w.exec(`SELECT bbm.enqueue('count', 'public.items', arguments => '{"a": "1", "b": null}', batch_size => 100)`)
	before := one[string](w, `SELECT m::text FROM bbm.batched_background_migrations AS m`)
	for _, call := range []string{
		`SELECT bbm.enqueue('count', 'public.items', arguments => '{"b": null, "a": "1"}', batch_size => 100)`,
		// Sizes and paused are tuning, and a number is the same argument as its text.
		`SELECT bbm.enqueue('count', 'public.items', 'count', '{"b": null, "a": 1}', batch_size => 7, sub_batch_size => 3, paused => true)`,
	} {
		require.Equal(t, "count", one[string](w, call))
	}
	w.exec(`DELETE FROM public.items`)
	require.Equal(t, "count", one[string](w, `SELECT bbm.enqueue('count', 'public.items', arguments => '{"a": "1", "b": null}')`))
	require.Equal(t, before, one[string](w, `SELECT m::text FROM bbm.batched_background_migrations AS m`))
	require.Equal(t, 1, one[int](w, `SELECT count(*) FROM bbm.batched_background_migration_transition_logs`))
}

func TestTwoEnqueuesAtOnceMakeOneMigration(t *testing.T) {
	for name, tc := range map[string]struct {
		end, second, code string
	}{
		"the same definition":            {"COMMIT", `SELECT bbm.enqueue('count', 'public.items')`, ""},
		"another definition":             {"COMMIT", `SELECT bbm.enqueue('other', 'public.items', 'count')`, "42710"},
		"the first has been rolled back": {"ROLLBACK", `SELECT bbm.enqueue('other', 'public.items', 'count')`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := setupItems(t)
			other := w.another()
			w.exec(`BEGIN`)
			w.exec(`SELECT bbm.enqueue('count', 'public.items')`)
			done := make(chan error, 1)
			pid := one[int](other, `SELECT pg_backend_pid()`)
			go func() {
				_, err := other.conn.Exec(t.Context(), tc.second)
				done <- err
			}()
			w.eventually(`SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $1 AND NOT granted)`, pid)
			w.exec(tc.end)
			err := <-done
			if tc.code == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, tc.code)
			}
			require.Equal(t, 1, one[int](w, `SELECT count(*) FROM bbm.batched_background_migrations`))
			require.Equal(t, 1, one[int](w, `SELECT count(*) FROM bbm.batched_background_migration_transition_logs`))
		})
	}
}

func TestAnEmptyTableIsFinishedAtOnce(t *testing.T) {
	for name, table := range map[string]string{
		"a plain table":       `CREATE TABLE public.empty (id bigint PRIMARY KEY)`,
		"a partitioned table": `CREATE TABLE public.empty (id bigint PRIMARY KEY) PARTITION BY HASH (id); CREATE TABLE public.one PARTITION OF public.empty FOR VALUES WITH (MODULUS 1, REMAINDER 0)`,
		"with rows deleted":   `CREATE TABLE public.empty (id bigint PRIMARY KEY); INSERT INTO public.empty VALUES (1); DELETE FROM public.empty`,
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t)
			w.exec(table)
			// As a schema migration does: in the transaction that has just changed the table.
			w.exec(`BEGIN; ALTER TABLE public.empty ADD COLUMN n int; SELECT bbm.enqueue('count', 'public.empty'); SELECT bbm.assert_finished('count'); COMMIT`)
			dbtest.CheckHistory(t, w.conn, "count")
			require.Equal(t, "the table was empty", one[string](w, `SELECT reason FROM bbm.batched_background_migration_transition_logs`))

			w.exec(`SELECT bbm.enqueue('count', 'public.empty', 'later', paused => true)`)
			require.Equal(t, "paused", w.status("later"))
		})
	}
}

func TestATableIsNotEmptyWhileAnotherSessionWritesToIt(t *testing.T) {
	for name, write := range map[string]string{
		"the table":                        `INSERT INTO public.items VALUES (1)`,
		"its partition":                    `INSERT INTO public.items_1 VALUES (1)`,
		"a partition of its partition":     `INSERT INTO public.items_1_1 VALUES (1)`,
		"the table, in a savepoint":        `SAVEPOINT s; INSERT INTO public.items VALUES (1)`,
		"under a lock of its own choosing": `LOCK TABLE public.items_1_1 IN SHARE ROW EXCLUSIVE MODE; INSERT INTO public.items_1_1 VALUES (1)`,
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t)
			w.exec(`CREATE TABLE public.items (id bigint PRIMARY KEY) PARTITION BY RANGE (id)`)
			w.exec(`CREATE TABLE public.items_1 PARTITION OF public.items FOR VALUES FROM (0) TO (100) PARTITION BY RANGE (id)`)
			w.exec(`CREATE TABLE public.items_1_1 PARTITION OF public.items_1 FOR VALUES FROM (0) TO (100)`)
			writer := w.another()
			writer.exec(`BEGIN`)
			writer.exec(write)
			w.exec(`SELECT bbm.enqueue('count', 'public.items', 'at its time')`)
			require.Equal(t, "active", w.status("at its time"))
			require.Equal(t, "55000", w.refused(`SELECT bbm.assert_finished('at its time')`).Code)

			writer.exec(`ROLLBACK`)
			w.exec(`SELECT bbm.enqueue('count', 'public.items', 'afterwards')`)
			require.Equal(t, "finished", w.status("afterwards"))
		})
	}
}

// An older transaction that holds no lock on the table so far may insert all the same.
func TestATableIsNotEmptyWhileAnOlderTransactionMayYetWriteToIt(t *testing.T) {
	for name, begin := range map[string]string{
		"one that has read elsewhere": `BEGIN; SELECT 1`,
		"one that has done nothing":   `BEGIN`,
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t)
			w.exec(`CREATE TABLE public.items (id bigint PRIMARY KEY)`)
			older := w.another()
			older.exec(begin)
			w.exec(`SELECT bbm.enqueue('count', 'public.items', 'at its time')`)
			require.Equal(t, "active", w.status("at its time"))
			require.Contains(t, one[string](w, `SELECT reason FROM bbm.batched_background_migration_transition_logs`),
				"the table is empty, but a transaction that is open may yet insert into it: a runner waits for it (process ")
			older.exec(`INSERT INTO public.items VALUES (1); COMMIT`)
			require.Equal(t, "55000", w.refused(`SELECT bbm.assert_finished('at its time')`).Code)
		})
	}
}

// Who was connected when this transaction looked before is not who is connected.
func TestAnOpenTransactionOfASessionThatHasConnectedSinceCounts(t *testing.T) {
	w := setup(t)
	w.exec(`CREATE TABLE public.items (id bigint PRIMARY KEY)`)
	w.exec(`BEGIN; SELECT count(*) FROM pg_stat_activity`)
	w.another().exec(`BEGIN`)
	w.exec(`SELECT bbm.enqueue('count', 'public.items'); COMMIT`)
	require.Equal(t, "active", w.status("count"))
}

func TestAnOpenTransactionOfAnotherDatabaseDoesNotCount(t *testing.T) {
	w := setup(t)
	w.exec(`CREATE TABLE public.items (id bigint PRIMARY KEY)`)
	connected(t, dbtest.New(t)).exec(`BEGIN; SELECT 1`)
	w.exec(`SELECT bbm.enqueue('count', 'public.items')`)
	require.Equal(t, "finished", w.status("count"))
}

func TestWhatSQLEnqueuesIsTunedAsTheCommandLineDoes(t *testing.T) {
	w := setup(t)
	w.exec(`CREATE TABLE public.items (id bigint PRIMARY KEY)`)
	w.exec(`INSERT INTO public.items VALUES (1)`)
	w.exec(`SELECT bbm.enqueue('count', 'public.items', pause => '2 s', job_interval => '1 min', parallelism => 3, max_attempts => 7,
		on_row_error => 'quarantine', quarantine_limit => 9)`)
	require.Equal(t, "00:00:02 00:01:00 3 7 quarantine 9", one[string](w, `SELECT concat_ws(' ', pause, job_interval, parallelism, max_attempts, on_row_error,
		quarantine_limit) FROM bbm.batched_background_migrations`))
	for _, wrong := range []string{`pause => '-1 s'`, `pause => '300 years'`, `job_interval => '300000 years'`, `parallelism => 0`, `max_attempts => 0`, `on_row_error => 'skip'`, `quarantine_limit => 0`} {
		require.Equal(t, "22023", w.refused(`SELECT bbm.enqueue('count', 'public.items', 'other', `+wrong+`)`).Code, wrong)
	}
}

func TestASessionsOwnRowsCountThoughTheyAreNotCommitted(t *testing.T) {
	w := setup(t)
	w.exec(`BEGIN; CREATE TABLE public.items (id bigint PRIMARY KEY); INSERT INTO public.items VALUES (1); SELECT bbm.enqueue('count', 'public.items'); COMMIT`)
	require.Equal(t, "active", w.status("count"))
}

// An older snapshot sees neither the rows that were committed since nor, any more, the lock of who wrote them.
func TestAnOldSnapshotDoesNotMakeATableEmpty(t *testing.T) {
	for _, level := range []string{"REPEATABLE READ", "SERIALIZABLE"} {
		t.Run(strings.ToLower(level), func(t *testing.T) {
			w := setup(t)
			w.exec(`CREATE TABLE public.items (id bigint PRIMARY KEY)`)
			w.exec(`BEGIN ISOLATION LEVEL ` + level)
			w.exec(`SELECT count(*) FROM public.items`)
			writer := w.another()
			writer.exec(`INSERT INTO public.items VALUES (1)`)
			w.exec(`SELECT bbm.enqueue('count', 'public.items')`)
			w.exec(`COMMIT`)
			require.Equal(t, "active", w.status("count"))
		})
	}
}

// A policy that hides rows from the role must not make the table empty: that would open the gate of later deploys.
func TestRowsThatAPolicyHidesAreNotTakenForNone(t *testing.T) {
	t.Parallel()
	name, in := role(t)
	w := connected(t, dbtest.New(t))
	w.exec(`CREATE TABLE public.items (id bigint PRIMARY KEY)`)
	w.exec(`INSERT INTO public.items VALUES (1)`)
	w.exec(`ALTER TABLE public.items ENABLE ROW LEVEL SECURITY`)
	w.exec(`GRANT SELECT, UPDATE ON public.items TO ` + name)
	w.grantAll(name)
	limited := connected(t, in(w.url))
	require.Zero(t, one[int](limited, `SELECT count(*) FROM public.items`))
	_, err := limited.conn.Exec(t.Context(), `SELECT bbm.enqueue('count', 'public.items')`)
	if err != nil {
		require.ErrorContains(t, err, "row-level security")
		return
	}
	require.Equal(t, "active", w.status("count"))
}
