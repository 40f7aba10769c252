package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

// objects reads what a command printed as JSON.
func objects(t *testing.T, printed string) []map[string]any {
	t.Helper()
	var array []map[string]any
	require.NoError(t, json.Unmarshal([]byte(printed), &array), printed)
	require.NotNil(t, array)
	return array
}

func keys(object map[string]any) []string {
	var names []string
	for name := range object {
		names = append(names, name)
	}
	return names
}

func TestAMigrationIsEnqueuedRunWatchedAndDeleted(t *testing.T) {
	w := setup(t)
	assert.Equal(t, "increment\n", w.ok("enqueue", "increment", "--batch-size", "40", "--sub-batch-size", "10"))
	assert.Equal(t, "increment\n", w.ok("enqueue", "increment"), "the same again changes nothing")
	w.ok("run", "--until-idle")
	assert.Equal(t, int64(100), one[int64](w, "SELECT count(*) FROM app.items WHERE n = 1"))

	list := w.ok("status")
	assert.Contains(t, list, "NAME")
	assert.Regexp(t, `increment +finished +100\.0 % +100\b`, list)
	detail := w.ok("status", "increment")
	for _, want := range []string{"status          finished", "100 rows, 100 changed", "3 succeeded", "cursor          id", "sub-batch size  10", "table           app.items"} {
		assert.Contains(t, detail, want)
	}
	assert.Equal(t, 4, strings.Count(w.ok("jobs", "increment"), "\n"), "a heading and three jobs")
	assert.Contains(t, w.ok("jobs", "increment", "--status", "failed"), "STATUS")
	assert.Contains(t, w.ok("logs", "increment"), "by ")
	assert.Regexp(t, `^increment finished 100\.0 %, 100 rows\n$`, w.ok("wait", "increment"))
	assert.Equal(t, "increment deleted\n", w.ok("delete", "increment"))
	assert.Equal(t, "[]\n", w.ok("status", "--json"))
	assert.Empty(t, w.ok("status"))
}

func TestTheFieldsOfJSONAreTheContract(t *testing.T) {
	w := setup(t)
	w.ok("enqueue", "increment", "--batch-size", "40")
	waiting := objects(t, w.ok("status", "--json"))[0]
	assert.ElementsMatch(t, []string{
		"name", "work", "table", "status", "progress", "processed_rows", "total_rows", "affected_rows", "rows_per_second", "eta_seconds", "jobs",
		"waiting_for", "hold", "failure", "failed_row", "quarantined_rows", "created_at", "started_at", "finished_at", "verification", "proof",
	}, keys(waiting))
	assert.Equal(t, "no runner is connected", waiting["waiting_for"])
	for _, null := range []string{"rows_per_second", "eta_seconds", "hold", "failure", "failed_row", "started_at", "finished_at", "verification", "proof"} {
		assert.Nil(t, waiting[null], null)
	}
	assert.Equal(t, "[]\n", w.ok("jobs", "increment", "--json"))
	assert.Equal(t, "[]\n", w.ok("logs", "increment", "--json"))

	w.ok("run", "--until-idle")
	done := objects(t, w.ok("status", "increment", "--json"))[0]
	assert.Equal(t, "finished", done["status"])
	assert.InDelta(t, 1, done["progress"], 0)
	assert.InDelta(t, 100, done["affected_rows"], 0)
	assert.ElementsMatch(t, []string{"pending", "running", "failed", "succeeded"}, keys(done["jobs"].(map[string]any)))
	finishedAt, err := time.Parse(time.RFC3339, done["finished_at"].(string))
	require.NoError(t, err)
	assert.Equal(t, time.UTC, finishedAt.Location())

	columnsOf := func(table string) []string {
		return one[[]string](w, "SELECT array_agg(attname::text) FROM pg_attribute WHERE attnum > 0 AND attrelid = 'bbm."+table+"'::regclass")
	}
	jobs := objects(t, w.ok("jobs", "increment", "--json"))
	assert.Len(t, jobs, 3)
	assert.ElementsMatch(t, columnsOf("batched_background_migration_jobs"), keys(jobs[0]))
	logs := objects(t, w.ok("logs", "increment", "--json"))
	assert.Len(t, logs, 9, "made, started and succeeded, for each job")
	assert.ElementsMatch(t, columnsOf("batched_background_migration_job_transition_logs"), keys(logs[0]))
	own := objects(t, w.ok("logs", "increment", "--json", "--migration"))
	assert.ElementsMatch(t, columnsOf("batched_background_migration_transition_logs"), keys(own[0]))
}

func TestASizeThatTheFileFixesIsLeftToTheRunner(t *testing.T) {
	w := setup(t)
	w.file("fixed", strings.Replace(increment, "-- cursor: id\n", "-- cursor: id\n-- sub_batch_size: 7\n", 1))
	assert.Contains(t, w.ok("enqueue", "fixed", "--dry-run"), "in sub-batches of 7\n")
	assert.Contains(t, w.ok("enqueue", "fixed", "--dry-run", "--sub-batch-size", "auto"), "in sub-batches of auto\n")
	w.ok("enqueue", "fixed", "--sub-batch-size", "auto", "--paused")
	assert.Contains(t, w.ok("status", "fixed"), "  sub-batch size  auto\n")
	w.ok("set", "fixed", "sub_batch_size=9")
	r := w.run("enqueue", "fixed", "--sub-batch-size", "auto")
	assert.Contains(t, r.stderr, "ignored: sub_batch_size=auto (it has 9)")
	assert.Contains(t, w.refused("enqueue", "fixed", "--name", "other", "--sub-batch-size", "some"), `--sub-batch-size is "some"; give a whole number, or auto`)
}

func TestSeveralMigrationsAreDeletedAtOnce(t *testing.T) {
	w := setup(t)
	for _, name := range []string{"one", "two", "three"} {
		w.ok("enqueue", "increment", "--name", name, "--paused")
	}
	w.ok("cancel", "one", "three")
	assert.Contains(t, w.refused("delete", "one", "nowhere"), `there is no migration "nowhere"`)
	r := w.run("delete", "one", "two", "three")
	assert.Equal(t, exitInput, r.code, "one of them is not at its end")
	assert.Equal(t, "one deleted\nthree deleted\n", r.stdout)
	assert.Contains(t, r.stderr, `migration "two" is paused`)
}

func TestTheNameOfACancelledMigrationIsRefused(t *testing.T) {
	w := setup(t)
	w.ok("enqueue", "increment")
	w.ok("cancel", "increment")
	const told = `migration "increment" was cancelled, and enqueueing it again does not bring it back; forget it first (bbm-runner delete increment)`
	assert.Contains(t, w.refused("enqueue", "increment"), told)
	assert.Contains(t, w.refused("enqueue", "increment", "--dry-run"), told)
	w.ok("delete", "increment")
	w.ok("enqueue", "increment")
}

func TestAMigrationIsPausedResumedCancelledAndRetried(t *testing.T) {
	w := setup(t)
	w.file("divide", divide)
	w.ok("enqueue", "increment")
	w.ok("enqueue", "divide", "--max-attempts", "1")

	assert.Equal(t, "increment paused\n", w.ok("pause", "increment", "--reason", "lunch"))
	assert.Contains(t, w.ok("status", "increment"), ": lunch")
	assert.Equal(t, "increment active\n", w.ok("resume", "--all"))
	assert.Equal(t, "increment paused\ndivide paused\n", w.ok("pause", "--all"))
	assert.Equal(t, "divide active\n", w.ok("resume", "divide"))
	assert.Equal(t, "increment cancelled\n", w.ok("cancel", "increment"))

	r := w.run("run", "--until-idle")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "bbm-runner: failed: divide\n")
	assert.Contains(t, w.ok("status", "divide"), "max_attempts: ")
	assert.Contains(t, w.ok("jobs", "divide", "--status", "failed"), "division_by_zero")
	w.file("divide", strings.ReplaceAll(divide, "n / (n - n)", "n + 1"))
	assert.Equal(t, "divide active\n", w.ok("retry", "divide", "--accept-work", "--reason", "mended"))
	w.ok("run", "--until-idle")
	w.ok("wait", "divide")
	assert.Contains(t, w.ok("logs", "divide", "--migration"), "mended")
	assert.Empty(t, w.ok("retry", "--all"))
}

func TestWhatOneMigrationRefusesDoesNotKeepTheOthersFromTheirs(t *testing.T) {
	w := setup(t)
	w.ok("enqueue", "increment")
	w.ok("enqueue", "increment", "--name", "ended")
	w.ok("cancel", "ended")
	r := w.run("pause", "ended", "increment")
	assert.Equal(t, exitInput, r.code)
	assert.Equal(t, "increment paused\n", r.stdout)
	assert.Equal(t, "bbm-runner: migration \"ended\" is cancelled; nothing to pause\n", r.stderr)
}

func TestTuningIsSet(t *testing.T) {
	w := setup(t)
	w.ok("enqueue", "increment", "--interval", "1s")
	assert.Equal(t, "increment pause=250ms sub_batch_size=7\n", w.ok("set", "increment", "pause=250ms", "sub_batch_size=7"))
	w.ok("set", "increment", "interval=2h", "parallelism=2", "max_attempts=9")
	detail := w.ok("status", "increment")
	for _, want := range []string{"interval        2h0m0s", "pause           250ms", "sub-batch size  7", "parallelism     2", "max attempts    9"} {
		assert.Contains(t, detail, want)
	}
	w.ok("set", "increment", "sub_batch_size=auto")
	assert.Contains(t, w.ok("status", "increment"), "sub-batch size  auto")
	assert.Equal(t, "fleet slots=3\n", w.ok("set", "--fleet", "slots=3"))
	assert.Equal(t, int64(3), one[int64](w, "SELECT slots FROM bbm.fleet_settings"))

	r := w.run("enqueue", "increment", "--pause", "1s", "--batch-size", "7", "--accept", "no_room")
	assert.Equal(t, "increment\n", r.stdout)
	assert.Equal(t, "bbm-runner: warning: increment is there already; ignored: batch_size=7 (it has 50000), pause=1s (it has 250ms)\n", r.stderr)
}

func TestADryRunWritesNothing(t *testing.T) {
	w := setup(t)
	before := w.dump()
	printed := w.ok("enqueue", "increment", "--dry-run", "--batch-size", "40")
	assert.Contains(t, printed, "increment would be created")
	assert.Contains(t, printed, "of 40 rows")
	assert.Equal(t, before, w.dump())
}

func TestTheGatesCloseTheFleet(t *testing.T) {
	w := setup(t)
	w.ok("enqueue", "increment")
	assert.Equal(t, "execution disabled\n", w.ok("disable", "--reason", "replica lag"))
	assert.Contains(t, w.ok("status", "increment"), "replica lag")
	r := w.run("run", "--until-idle")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "bbm-runner enable")
	assert.Equal(t, "execution enabled\n", w.ok("enable"))
	w.environ = []string{"BBM_LOG_LEVEL=error"}
	r = w.run("run", "--until-idle")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "BBM_ENABLED")
	assert.Equal(t, int64(100), one[int64](w, "SELECT count(*) FROM app.items WHERE n = 0"))
}

func TestRunLooksAtTheNamedMigrationsOnly(t *testing.T) {
	w := setup(t)
	w.ok("enqueue", "increment", "--name", "first")
	w.ok("enqueue", "increment", "--name", "second")
	w.ok("run", "--until-idle", "--only", "second", "--workers", "2")
	assert.Equal(t, "active", one[string](w, "SELECT status::text FROM bbm.batched_background_migrations WHERE name = 'first'"))
	assert.Equal(t, "finished", one[string](w, "SELECT status::text FROM bbm.batched_background_migrations WHERE name = 'second'"))
}

func TestABrokenFileOfAnotherWorkIsOnlyAWarning(t *testing.T) {
	w := setup(t)
	w.file("broken", "SELECT 1;")
	r := w.run("enqueue", "increment")
	assert.Equal(t, exitDone, r.code)
	assert.Equal(t, "increment\n", r.stdout)
	assert.Contains(t, r.stderr, "warning: ")
	assert.Contains(t, r.stderr, "broken.sql:1: ")
}

func TestWorksAreListedWithoutADatabase(t *testing.T) {
	t.Parallel()
	w := &world{t: t}
	r := w.program(t.Context(), "works", "--works", "../../works", "--database-url", "postgres://127.0.0.1:1/none")
	assert.Equal(t, exitDone, r.code, r.stderr)
	assert.Regexp(t, `users_email_lower +public\.users +id +domain text`, r.stdout)
}

func TestNewWritesAWorkFileWithTheTablesOwnCursor(t *testing.T) {
	w := setup(t)
	w.exec(`CREATE TABLE app."Odd Lines" (tenant int, line bigint, n int, PRIMARY KEY (tenant, line))`)
	w.works = filepath.Join(w.works, "made", "by", "new")
	path := filepath.Join(w.works, "odd_lines.sql")
	assert.Equal(t, path+"\n", w.ok("new", "odd_lines", "--table", `app."Odd Lines"`))
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Contains(t, string(content), `-- table: app."Odd Lines"`)
	assert.Contains(t, string(content), `-- cursor: tenant, line`)
	assert.Contains(t, w.ok("works"), "odd_lines")
	assert.Contains(t, w.refused("new", "odd_lines", "--table", `app."Odd Lines"`), "is there already")
	w.exec(`CREATE TABLE app.bare (n int); CREATE VIEW app.seen AS SELECT 1 AS id`)
	assert.Contains(t, w.refused("new", "bare", "--table", "app.bare"), "no unique index that can serve as a cursor")
	assert.Contains(t, w.refused("new", "seen", "--table", "app.seen"), "is a view")
}

func TestTheSchemaGoesUpDownAndUpAgain(t *testing.T) {
	w := setup(t)
	w.url = dbtest.NewEmpty(t)
	w.conn = dbtest.Connect(t, w.url)
	assert.Contains(t, w.ok("schema", "status"), "database  0\n")
	assert.Contains(t, w.ok("schema", "status"), "pending   00001_create_migrations.sql\n")
	assert.Contains(t, w.ok("schema", "up"), "applied 00001_create_migrations.sql\n")
	assert.NotContains(t, w.ok("schema", "up"), "applied")
	assert.Contains(t, w.ok("schema", "status"), "pending   none\n")

	w.exec(`CREATE SCHEMA app; CREATE TABLE app.items (id bigint PRIMARY KEY, n int); INSERT INTO app.items SELECT 1`)
	w.ok("enqueue", "increment")
	assert.Contains(t, w.refused("schema", "down"), "increment; cancel them first")
	assert.Contains(t, w.ok("schema", "down", "--force"), "undone")
	assert.Equal(t, "schema bbm is not installed\n", w.ok("schema", "down"))
	w.ok("schema", "up")
	assert.Equal(t, "[]\n", w.ok("status", "--json"))
	w.ok("schema", "down")
}

func TestVersionNeedsNothing(t *testing.T) {
	t.Parallel()
	w := &world{t: t, environ: []string{"BBM_LOG_LEVEL=loud"}}
	r := w.program(t.Context(), "version")
	assert.Equal(t, exitDone, r.code)
	assert.Regexp(t, `^bbm-runner .+, commit .+, go1\.`, r.stdout)
}
