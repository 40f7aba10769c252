package runner_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/runner"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// convert fills the new column and counts how often it has touched a row; it does not say itself which rows it means.
const convert = `-- description: Fill the new column.
-- table: public.items
-- cursor: id
-- remaining: new_form IS NULL

-- +bbm Work
UPDATE public.items AS i SET new_form = i.old_form * 2, n = n + 1 WHERE @batch(i)`

// withOldForm has that many items, which only the old form of a value is written to.
func withOldForm(t *testing.T, rows int) *world {
	t.Helper()
	w := setup(t, 0)
	w.exec(`ALTER TABLE public.items ADD old_form bigint, ADD new_form bigint`)
	w.exec(`INSERT INTO public.items (id, old_form) SELECT g, g FROM generate_series(1, $1::int) AS g`, rows)
	return w
}

// proved makes sure that the migration "convert" is finished, that every row was changed, once each, and that the proof says so.
func (w *world) proved() {
	w.t.Helper()
	require.Equal(w.t, "finished", w.status("convert"))
	require.Zero(w.t, one[int](w, `SELECT count(*) FROM public.items WHERE new_form IS DISTINCT FROM old_form * 2 OR n <> 1`), "rows not changed exactly once")
	w.provedRows("convert")
	dbtest.CheckHistory(w.t, w.conn, "convert")
}

func (w *world) provedRows(name string) {
	w.t.Helper()
	require.Equal(w.t, one[int](w, `SELECT count(*) FROM public.items`), one[int](w, `SELECT verified_rows FROM bbm.batched_background_migrations WHERE name = $1`, name))
	require.Contains(w.t, one[string](w, `SELECT verified_statement FROM bbm.batched_background_migrations WHERE name = $1`, name), "IS TRUE THEN ARRAY[")
}

// passes is how many jobs each pass had.
func (w *world) passes() map[int]int {
	w.t.Helper()
	rows, err := w.conn.Query(w.ctx, `SELECT pass, count(*) FROM bbm.batched_background_migration_jobs GROUP BY pass`)
	require.NoError(w.t, err)
	found := make(map[int]int)
	var pass, jobs int
	_, err = pgx.ForEachRow(rows, []any{&pass, &jobs}, func() error { found[pass] = jobs; return nil })
	require.NoError(w.t, err)
	return found
}

// oldVersion is a server of the application that still writes the old form alone: after each sub-batch of the migration as often as it is told, it
// writes behind the frontier and beyond the upper bound, and moves a key behind the frontier.
func (w *world) oldVersion(times int) {
	w.t.Helper()
	w.exec(fmt.Sprintf(`CREATE SEQUENCE public.written;
		CREATE FUNCTION public.write_old_form() RETURNS trigger LANGUAGE plpgsql AS $$
		DECLARE i bigint := nextval('public.written');
		BEGIN
			IF i <= %d THEN
				INSERT INTO public.items (id, old_form) VALUES (-i, i), (1000000 + i, i);
				UPDATE public.items SET id = -1000 - i, new_form = NULL, n = 0 WHERE id = 90 + i;
			END IF;
			RETURN NULL;
		END $$;
		CREATE TRIGGER old_version AFTER UPDATE OF new_form ON public.items FOR EACH STATEMENT
		WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION public.write_old_form()`, times))
}

func TestRowsThatAnOldVersionWroteBehindTheFrontierAreChangedBeforeItIsFinished(t *testing.T) {
	w := withOldForm(t, 1000)
	w.oldVersion(3)
	w.enqueue("convert", "public.items", 100, 50)
	require.NoError(t, w.runUntilIdle(parse(t, "convert", convert)))
	w.proved()
	passes := w.passes()
	assert.Equal(t, 10, passes[0])
	assert.NotZero(t, passes[1])
	assert.Zero(t, passes[2])
	assert.Contains(t, w.log.String(), "rows remain; the walk is repeated")
}

func TestSeveralWorkersProveOneMigration(t *testing.T) {
	w := withOldForm(t, 2000)
	w.oldVersion(9)
	w.exec(`UPDATE bbm.fleet_settings SET slots = 3`)
	w.enqueue("convert", "public.items", 50, 25)
	w.exec(`UPDATE bbm.batched_background_migrations SET parallelism = 3`)
	config := w.config()
	config.Workers = 4
	require.NoError(t, w.runner(config, parse(t, "convert", convert)).Run(w.ctx))
	w.proved()
	assert.NotZero(t, w.passes()[1])
}

func TestAnOldVersionThatNeverStopsFailsTheMigrationWithTheKeysThatRemain(t *testing.T) {
	w := withOldForm(t, 200)
	w.oldVersion(1_000_000)
	w.enqueue("convert", "public.items", 100, 100)
	var failed *runner.MigrationsFailedError
	require.ErrorAs(t, w.runUntilIdle(parse(t, "convert", convert)), &failed)
	assert.Equal(t, "rows_remaining", one[string](w, `SELECT failure_error_code::text FROM bbm.batched_background_migrations`))
	message := one[string](w, `SELECT failure_message FROM bbm.batched_background_migrations`)
	remaining := one[int](w, `SELECT count(*) FROM public.items WHERE new_form IS NULL`)
	assert.Contains(t, message, fmt.Sprintf("after 3 passes %d of ", remaining))
	assert.Contains(t, message, "for which this holds: new_form IS NULL; with the keys -")
	for pass := 1; pass <= 3; pass++ {
		assert.NotZero(t, w.passes()[pass], "pass %d", pass)
	}
	assert.Zero(t, w.passes()[4])
	dbtest.CheckHistory(t, w.conn, "convert")

	// It is stopped, and the migration set going again.
	w.exec(`DROP TRIGGER old_version ON public.items`)
	w.retry("convert", parse(t, "convert", convert))
	w.proved()
	assert.NotZero(t, w.passes()[5], "the first of three passes more, behind the walk that failed")
}

func TestNothingThatRemainsIsProvedByOneWalk(t *testing.T) {
	w := withOldForm(t, 1000)
	w.enqueue("convert", "public.items", 300, 100)
	require.NoError(t, w.runUntilIdle(parse(t, "convert", convert)))
	w.proved()
	assert.Equal(t, map[int]int{0: 4}, w.passes())
	assert.Equal(t, 1, one[int](w, `SELECT count(*) FROM bbm.batched_background_migration_verifications`))
}

func TestAnEmptyTableIsItsOwnProof(t *testing.T) {
	w := withOldForm(t, 1)
	w.enqueue("convert", "public.items", 10, 10)
	w.exec(`TRUNCATE public.items`)
	require.NoError(t, w.runUntilIdle(parse(t, "convert", convert)))
	require.Equal(t, "finished", w.status("convert"))
	assert.Equal(t, 0, one[int](w, `SELECT verified_rows FROM bbm.batched_background_migrations`))
	assert.Contains(t, one[string](w, `SELECT verified_statement FROM bbm.batched_background_migrations`), "SELECT ARRAY")
	dbtest.CheckHistory(t, w.conn, "convert")
}

func TestATableThatWasEmptiedByItsWorkIsProvedWithoutARow(t *testing.T) {
	w := withOldForm(t, 100)
	w.enqueue("drain", "public.items", 30, 10)
	require.NoError(t, w.runUntilIdle(parse(t, "drain", "-- description: d\n-- table: public.items\n-- cursor: id\n-- remaining: old_form > 0\n-- +bbm Work\n"+
		"DELETE FROM public.items WHERE @batch AND old_form > 0")))
	require.Equal(t, "finished", w.status("drain"))
	w.provedRows("drain")
	dbtest.CheckHistory(t, w.conn, "drain")
}

func TestProofsOfCompositeAndUUIDCursors(t *testing.T) {
	for name, c := range map[string]struct{ table, cursor, fill, late string }{
		"composite": {
			"tenant int, id text, PRIMARY KEY (tenant, id)", "tenant, id", "g % 7, 'k;' || g",
			"INSERT INTO public.items (tenant, id, old_form) SELECT 3, 'late' || g, g FROM generate_series(1, 30) AS g",
		},
		"uuid": {
			"id uuid PRIMARY KEY", "id", "md5(g::text)::uuid",
			"INSERT INTO public.items (id, old_form) SELECT md5('late' || g)::uuid, g FROM generate_series(1, 30) AS g",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t, 0)
			w.exec(`DROP TABLE public.items`)
			w.exec(`CREATE TABLE public.items (old_form bigint, new_form bigint, n integer NOT NULL DEFAULT 0, ` + c.table + `)`)
			w.exec(`INSERT INTO public.items (` + c.cursor + `, old_form) SELECT ` + c.fill + `, g FROM generate_series(1, 500) AS g`)
			w.enqueue("convert", "public.items", 60, 20)
			stop := w.start(w.runner(w.daemon(), parse(t, "convert", strings.Replace(convert, "cursor: id", "cursor: "+c.cursor, 1))))
			w.eventually(`SELECT succeeded_jobs > 3 FROM bbm.batched_background_migrations`)
			w.exec(c.late)
			w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
			require.NoError(t, stop())
			w.proved()
		})
	}
}

func TestRepeatedKeysAreWalkedTogether(t *testing.T) {
	w := setup(t, 0)
	w.exec(`DROP TABLE public.items`)
	w.exec(`CREATE TABLE public.items (id bigint NOT NULL, old_form bigint, new_form bigint, n integer NOT NULL DEFAULT 0)`)
	w.exec(`CREATE INDEX ON public.items (id)`)
	w.exec(`INSERT INTO public.items (id, old_form) SELECT g / 40, g FROM generate_series(1, 500) AS g`)
	w.enqueue("convert", "public.items", 50, 10)
	w.exec(`CREATE SEQUENCE public.written`)
	w.exec(`CREATE FUNCTION public.late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO public.items (id, old_form) SELECT 3, g FROM generate_series(1, 100) AS g WHERE nextval('public.written') = 301; RETURN NULL; END $$`)
	w.exec(`CREATE TRIGGER late AFTER UPDATE ON public.items FOR EACH STATEMENT EXECUTE FUNCTION public.late()`)
	require.NoError(t, w.runUntilIdle(parse(t, "convert", strings.Replace(convert, "-- remaining", "-- repeated_keys: yes\n-- remaining", 1))))
	w.proved()
}

func TestWhatRemainsIsJudgedOutsideOfTheScopeToo(t *testing.T) {
	w := withOldForm(t, 503) // the last three are above the last key of the scope
	w.exec(`CREATE INDEX ON public.items (id) WHERE old_form % 5 = 0`)
	w.enqueue("convert", "public.items", 20, 10)
	require.NoError(t, w.runUntilIdle(parse(t, "convert", strings.Replace(convert, "-- remaining", "-- scope: old_form % 5 = 0\n-- remaining", 1))))
	w.proved()
	assert.NotZero(t, w.passes()[1])
}

func TestAScopeWithoutRowsIsNoProof(t *testing.T) {
	w := withOldForm(t, 50)
	w.exec(`CREATE INDEX ON public.items (id) WHERE old_form < 0`)
	w.enqueue("convert", "public.items", 20, 10)
	require.NoError(t, w.runUntilIdle(parse(t, "convert", strings.Replace(convert, "-- remaining", "-- scope: old_form < 0\n-- remaining", 1))))
	w.proved()
}

func TestAPassOfAGoWorkSeesOnlyTheRowsThatRemain(t *testing.T) {
	w := withOldForm(t, 300)
	w.oldVersion(2)
	w.enqueue("convert", "public.items", 100, 50)
	require.NoError(t, w.runUntilIdle(&work.Work{
		Name: "convert", Version: "1", Table: "public.items", Cursor: []string{"id"}, Remaining: "new_form IS NULL",
		Do: func(ctx context.Context, tx pgx.Tx, b work.Batch) (int64, error) {
			return b.Exec(ctx, tx, `UPDATE public.items AS i SET new_form = i.old_form * 2, n = n + 1 WHERE @batch(i)`)
		},
	}))
	w.proved()
	assert.NotZero(t, w.passes()[1])
}

func TestTheWalkWaitsForATransactionThatIsOlder(t *testing.T) {
	w := withOldForm(t, 100)
	w.enqueue("convert", "public.items", 50, 50)
	w.exec(`UPDATE bbm.batched_background_migrations SET pause = '1 hour'`)
	stop := w.start(w.runner(w.daemon(), parse(t, "convert", convert)))
	w.eventually(`SELECT max_key IS NOT NULL FROM bbm.batched_background_migrations`)
	late, err := dbtest.Connect(t, w.url).Begin(w.ctx)
	require.NoError(t, err)
	_, err = late.Exec(w.ctx, `INSERT INTO public.items (id, old_form) VALUES (-1, 1)`)
	require.NoError(t, err)
	w.exec(`UPDATE bbm.batched_background_migrations SET pause = '0'`)
	w.eventually(`SELECT cardinality(awaited_transactions) > 0 FROM bbm.batched_background_migration_verifications`)
	require.Equal(t, "running", w.status("convert"))
	require.NoError(t, late.Commit(w.ctx))
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	w.proved()
	assert.Equal(t, map[int]int{0: 2, 1: 1}, w.passes())
}

// blockingProof waits for a lock where the walk comes to row 50.
var blockingProof = strings.Replace(convert, "new_form IS NULL", "new_form IS NULL OR id = 50 AND public.wait_here() > 0", 1)

func TestARunnerThatIsKilledInTheWalkIsFollowedByOneThatGoesOn(t *testing.T) {
	w := withOldForm(t, 100)
	unblock := w.block()
	w.enqueue("convert", "public.items", 10, 10)
	stop := w.start(w.runner(w.daemon(), parse(t, "convert", blockingProof)))
	first := w.blocked()
	require.Equal(t, 40, one[int](w, `SELECT walked_rows FROM bbm.batched_background_migration_verifications`), "what was walked is kept")
	w.exec(`SELECT pg_terminate_backend($1)`, first)
	require.Eventually(t, func() bool { return strings.Contains(w.log.String(), "reconnecting") }, 30*time.Second, time.Millisecond)
	require.NotEqual(t, first, w.blocked())
	require.Equal(t, 40, one[int](w, `SELECT walked_rows FROM bbm.batched_background_migration_verifications`))
	unblock()
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	w.proved()
	assert.Equal(t, 1, one[int](w, `SELECT count(*) FROM bbm.batched_background_migration_verifications`))
}

func TestAWalkThatIsPausedGoesOnWhereItWas(t *testing.T) {
	w := withOldForm(t, 100)
	unblock := w.block()
	w.enqueue("convert", "public.items", 10, 10)
	stop := w.start(w.runner(w.daemon(), parse(t, "convert", blockingProof)))
	w.blocked()
	w.transit("convert", "running", "paused") // which waits for no piece
	unblock()
	polls := w.polls()
	require.Eventually(t, func() bool { return w.polls() > polls+5 }, 30*time.Second, time.Millisecond)
	require.Equal(t, 40, one[int](w, `SELECT walked_rows FROM bbm.batched_background_migration_verifications`), "the piece in progress does not count")
	w.transit("convert", "paused", "active")
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	w.proved()
}

// transit changes the status of a migration, as a command does.
func (w *world) transit(name, from, to string) {
	w.t.Helper()
	w.exec(`WITH m AS (UPDATE bbm.batched_background_migrations SET status = $3::text::bbm.migration_status WHERE name = $1 RETURNING id)
		INSERT INTO bbm.batched_background_migration_transition_logs (batched_background_migration_id, previous_status, next_status, changed_by)
		SELECT m.id, $2::text::bbm.migration_status, $3::text::bbm.migration_status, 'test' FROM m`, name, from, to)
}

func TestDisablingTheFleetStopsTheWalk(t *testing.T) {
	w := withOldForm(t, 100)
	unblock := w.block()
	w.enqueue("convert", "public.items", 10, 10)
	stop := w.start(w.runner(w.daemon(), parse(t, "convert", blockingProof)))
	w.blocked()
	w.exec(`UPDATE bbm.fleet_settings SET execution_enabled = false`)
	unblock()
	require.Eventually(t, func() bool { return w.logged(runner.ErrExecutionDisabled.Error()) }, 30*time.Second, time.Millisecond)
	require.Equal(t, 40, one[int](w, `SELECT walked_rows FROM bbm.batched_background_migration_verifications`))
	w.exec(`UPDATE bbm.fleet_settings SET execution_enabled = true`)
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	w.proved()
}

func TestOtherMigrationsHaveTheirTurnBetweenThePiecesOfAWalk(t *testing.T) {
	w := withOldForm(t, 100)
	unblock := w.block()
	w.exec(`CREATE TABLE public.others (id bigint PRIMARY KEY, n integer NOT NULL DEFAULT 0)`)
	w.exec(`INSERT INTO public.others (id) SELECT generate_series(1, 20)`)
	w.exec(`UPDATE bbm.fleet_settings SET slots = 2`)
	w.enqueue("convert", "public.items", 10, 10)
	small := parse(t, "small", "-- description: d\n-- table: public.others\n-- cursor: id\n-- +bbm Work\nUPDATE public.others AS o SET n = n + 1 WHERE @batch(o)")
	config := w.daemon()
	config.Workers = 2
	stop := w.start(w.runner(config, small, parse(t, "convert", blockingProof)))
	w.blocked()
	w.enqueue("small", "public.others", 5, 5)
	// While one worker reads a piece the other neither waits for it nor walks as well; and a piece that waits for a lock too long says so.
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations WHERE name = 'small'`)
	w.eventually(`SELECT hold_reason LIKE 'lock_not_available: %' FROM bbm.batched_background_migrations WHERE name = 'convert'`)
	unblock()
	w.exec(`UPDATE bbm.batched_background_migrations SET on_hold_until = NULL, hold_reason = NULL WHERE name = 'convert'`)
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations WHERE name = 'convert'`)
	require.NoError(t, stop())
	w.proved()
	dbtest.CheckHistory(t, w.conn, "small")
}

func TestAPredicateThatFailsOnARowFailsTheMigrationWithTheReason(t *testing.T) {
	w := withOldForm(t, 100)
	w.enqueue("convert", "public.items", 10, 10)
	require.Error(t, w.runUntilIdle(parse(t, "convert", strings.Replace(convert, "new_form IS NULL", "1 / (id - 50) > 5", 1))))
	assert.Equal(t, `invalid_work: work "convert":4: remaining: division by zero`,
		one[string](w, `SELECT failure_error_code || ': ' || failure_message FROM bbm.batched_background_migrations`))
	dbtest.CheckHistory(t, w.conn, "convert")
}

func TestARowThatWasChangedWhileItWasLeftOutIsNotChangedAgainByItsRetry(t *testing.T) {
	w := withOldForm(t, 100)
	w.exec(`ALTER TABLE public.items ADD CONSTRAINT refused CHECK (id <> 50 OR new_form IS NULL)`)
	w.enqueue("convert", "public.items", 100, 10)
	w.exec(`UPDATE bbm.batched_background_migrations SET on_row_error = 'quarantine'`)
	require.NoError(t, w.runUntilIdle(parse(t, "convert", convert)))
	require.Equal(t, "finished", w.status("convert"))

	// Somebody mends the row, and changes it.
	w.exec(`ALTER TABLE public.items DROP CONSTRAINT refused`)
	w.exec(`UPDATE public.items SET new_form = old_form * 2, n = n + 1 WHERE id = 50`)
	rows, err := w.control().RetryQuarantined(w.ctx, "convert", "", false)
	require.NoError(t, err)
	require.EqualValues(t, 1, rows)
	require.NoError(t, w.runUntilIdle(parse(t, "convert", convert)))
	w.proved()
}
