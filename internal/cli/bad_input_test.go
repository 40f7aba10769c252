package cli

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

func TestABrokenWorkFileIsRefused(t *testing.T) {
	w := setup(t)
	for name, test := range map[string]struct{ content, want string }{
		"without_table":  {strings.Replace(increment, "-- table: app.items\n", "", 1), `table`},
		"twice_cursor":   {strings.Replace(increment, "-- cursor: id\n", "-- cursor: id\n-- cursor: id\n", 1), `:4: `},
		"misspelt":       {strings.Replace(increment, "table:", "tabel:", 1), `:2: unknown header "tabel"; did you mean "table"?`},
		"no_batch":       {strings.Replace(increment, "@batch(i)", "true", 1), `@batch`},
		"two_batches":    {strings.Replace(increment, "@batch(i)", "@batch(i) AND @batch(i)", 1), `@batch`},
		"two_statements": {increment + "DELETE FROM app.items;\n", `:7: `},
		"undeclared":     {strings.Replace(increment, "n + 1", "n + @summand", 1), `summand`},
		"syntax_error":   {strings.Replace(increment, "SET", "SETT", 1), `syntax error`},
	} {
		w.file(name, test.content)
		line := w.refused("enqueue", name)
		assert.Contains(t, line, test.want, name)
		assert.Contains(t, line, name+".sql", name)
		require.NoError(t, os.Remove(filepath.Join(w.works, name+".sql")))
	}
}

func TestAWrongDefinitionIsRefused(t *testing.T) {
	w := setup(t)
	w.exec(`
		CREATE TABLE app.odd (
			id bigint PRIMARY KEY, nullable int UNIQUE, unindexed int NOT NULL, repeated int NOT NULL, code char(3) NOT NULL UNIQUE, n int
		);
		CREATE INDEX ON app.odd (repeated)`)
	for name, test := range map[string]struct{ table, cursor, column, want string }{
		"no_table":    {"app.nowhere", "id", "n", "app.nowhere"},
		"no_column":   {"app.odd", "id", "missing", "missing"},
		"no_cursor":   {"app.odd", "missing", "n", "missing"},
		"nullable":    {"app.odd", "nullable", "n", "nullable"},
		"unindexed":   {"app.odd", "unindexed", "n", "unindexed"},
		"repeated":    {"app.odd", "repeated", "n", "repeated_keys"},
		"unsupported": {"app.odd", "code", "n", "character"},
	} {
		content := strings.NewReplacer("app.items", test.table, "cursor: id", "cursor: "+test.cursor, "SET n = n + 1", "SET "+test.column+" = 1").Replace(increment)
		w.file(name, content)
		assert.Contains(t, w.refused("enqueue", name), test.want, name)
	}
}

func TestAForeignTableIsRefused(t *testing.T) {
	w := setup(t)
	if _, err := w.conn.Exec(t.Context(), "CREATE EXTENSION file_fdw"); err != nil {
		t.Skipf("file_fdw is not there: %v", err)
	}
	w.exec(`CREATE SERVER files FOREIGN DATA WRAPPER file_fdw; CREATE FOREIGN TABLE app.far (id bigint, n int) SERVER files OPTIONS (filename '/dev/null')`)
	w.file("far", strings.ReplaceAll(increment, "app.items", "app.far"))
	assert.Contains(t, w.refused("enqueue", "far"), "foreign")
}

func TestWrongValuesAreRefused(t *testing.T) {
	w := setup(t)
	w.file("add", withArgument)
	w.ok("enqueue", "add", "--name", "taken", "--arg", "summand=1", "--paused")
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"enqueue", "unknown"}, `no work "unknown"`},
		{[]string{"enqueue", "add"}, `"summand" (int) is missing: give --arg summand=VALUE`},
		{[]string{"enqueue", "add", "--arg", "summand=1", "--arg", "other=1"}, `unknown argument "other"`},
		{[]string{"enqueue", "add", "--arg", "summand=one"}, `one`},
		{[]string{"enqueue", "add", "--arg", "summand"}, `is no key=value`},
		{[]string{"enqueue", "add", "--arg", "summand=1", "--arg", "summand=2"}, `given twice`},
		{[]string{"enqueue", "increment", "--batch-size", "0"}, `batch size of 0`},
		{[]string{"enqueue", "increment", "--batch-size", "10", "--sub-batch-size", "11"}, `below the sub-batch size`},
		{[]string{"enqueue", "increment", "--batch-size", "2147483648"}, `2147483648`},
		{[]string{"enqueue", "increment", "--batch-size", "many"}, `invalid argument "many"`},
		{[]string{"enqueue", "increment", "--pause", "-1s"}, `pause of -1s`},
		{[]string{"enqueue", "increment", "--max-attempts", "0"}, `attempts of 0`},
		{[]string{"enqueue", "increment", "--name", ""}, `name is empty`},
		{[]string{"enqueue", "increment", "--name", strings.Repeat("n", 101)}, `101 characters`},
		{[]string{"enqueue", "increment", "--name", "taken"}, `taken by a migration with another definition`},
		{[]string{"enqueue", "add", "--name", "taken", "--arg", "summand=2"}, `taken by a migration with another definition`},
		{[]string{"enqueue"}, `enqueue needs WORK (see: bbm-runner enqueue --help)`},
		{[]string{"enqueue", ""}, `is empty`},
		{[]string{"enqueue", "a", "b"}, `one too many`},
		{[]string{"pause"}, `needs a NAME, or --all`},
		{[]string{"pause", "taken", "--all"}, `not both`},
		{[]string{"pause", "taken", "nowhere"}, `there is no migration "nowhere"`},
		{[]string{"retry", "taken"}, `is paused`},
		{[]string{"resume", "nowhere"}, `there is no migration "nowhere"`},
		{[]string{"delete", "taken"}, `only a finished or cancelled one`},
		{[]string{"wait", "nowhere"}, `there is no migration "nowhere"`},
		{[]string{"wait", "taken", "--timeout", "-1s"}, `--timeout is -1s`},
		{[]string{"status", "nowhere"}, `there is no migration "nowhere"`},
		{[]string{"jobs", "taken", "--status", "lost"}, `unknown status "lost"`},
		{[]string{"logs", "nowhere"}, `there is no migration "nowhere"`},
		{[]string{"set", "taken"}, `needs NAME and key=value`},
		{[]string{"set", "taken", "colour=red"}, `unknown setting "colour"`},
		{[]string{"set", "taken", "batch_size=10"}, `batch_size is fixed at the enqueue`},
		{[]string{"set", "taken", "slots=2"}, `bbm-runner set --fleet slots=2`},
		{[]string{"set", "taken", "pause=5"}, `give a duration`},
		{[]string{"set", "taken", "parallelism=0"}, `parallelism of 0`},
		{[]string{"set", "taken", "sub_batch_size=some"}, `a whole number, or auto`},
		{[]string{"set", "--fleet", "slots=0"}, `0 slots`},
		{[]string{"set", "--fleet", "slots=x"}, `give a whole number`},
		{[]string{"set", "--fleet", "tables=1"}, `slots=N`},
		{[]string{"disable"}, `needs --reason`},
		{[]string{"schema"}, `schema needs one of: down, status, up`},
		{[]string{"schema", "upp"}, `did you mean "up"?`},
		{[]string{"schema", "down"}, `taken; cancel them first`},
		{[]string{"help", "stauts"}, `did you mean "status"?`},
		{[]string{"help", "schema", "x"}, `unknown command`},
		{[]string{"stauts"}, `did you mean "status"?`},
		{[]string{"status", "--jsno"}, `unknown flag: --jsno (see: bbm-runner status --help)`},
		{[]string{"run", "--workers", "0"}, `--workers is "0"; give a whole number from 1 to 1000`},
		{[]string{"new", "x"}, `needs --table`},
		{[]string{"new", "increment", "--table", "app.items"}, `is there already`},
		{[]string{"new", "x", "--table", "app.nowhere"}, `table app.nowhere does not exist`},
		{[]string{"new", "a b", "--table", "app.items"}, `no name for a work`},
		{[]string{"--log-level", "loud", "status"}, `--log-level`},
	} {
		assert.Contains(t, w.refused(test.args...), test.want, test.args)
	}
}

func TestAWrongConfigurationFileIsRefused(t *testing.T) {
	w := setup(t)
	path := filepath.Join(t.TempDir(), "bbm.yaml")
	assert.Contains(t, w.refused("--config", path, "status"), "no such file")
	require.NoError(t, os.WriteFile(path, []byte("worker: 2\n"), 0o600))
	assert.Contains(t, w.refused("--config", path, "status"), `bbm.yaml:1: unknown key "worker"; did you mean "workers"?`)
}

func TestAFolderOfWorksThatIsNotThereIsRefused(t *testing.T) {
	w := setup(t)
	w.works = filepath.Join(w.works, "nowhere")
	for _, args := range [][]string{{"works"}, {"run", "--until-idle"}, {"enqueue", "increment"}} {
		assert.Contains(t, w.refused(args...), "no such file or directory", args)
	}
}

func TestWorksListsEveryBrokenOne(t *testing.T) {
	w := setup(t)
	w.file("broken_a", "SELECT 1;")
	w.file("broken_b", "SELECT 2;")
	w.goWorks = []*work.Work{{Name: "incomplete"}}
	r := w.run("works")
	assert.Equal(t, exitInput, r.code)
	assert.Empty(t, r.stdout)
	assert.Equal(t, 3, strings.Count(r.stderr, "\n"), r.stderr)
	assert.Contains(t, r.stderr, "broken_a.sql:1: ")
	assert.Contains(t, r.stderr, "broken_b.sql:1: ")
	assert.Contains(t, r.stderr, `work "incomplete", written in Go: it has no function`)
}

func TestAnUnreachableServerIsRefusedAfterAFewTries(t *testing.T) {
	t.Parallel()
	w := &world{t: t}
	// Port 1 is tcpmux: nothing listens there.
	r := w.program(t.Context(), "--database-url", "postgres://alice:hunter2@127.0.0.1:1/shop?sslmode=disable", "status")
	w.requireRefusal(r)
	assert.Contains(t, r.stderr, `cannot connect to 127.0.0.1:1, database "shop", as "alice" after 3 tries: `)
	assert.NotContains(t, r.stderr, "hunter2")
}

func TestAWrongPasswordIsRefusedAtOnceAndNeverPrinted(t *testing.T) {
	w := setup(t)
	u, err := url.Parse(w.url)
	require.NoError(t, err)
	u.User = url.UserPassword(u.User.Username(), "hunter2")
	if conn, err := pgx.Connect(t.Context(), u.String()); err == nil {
		require.NoError(t, conn.Close(t.Context()))
		t.Skip("this server asks for no password")
	}
	w.url = u.String()
	line := w.refused("status")
	assert.Contains(t, line, "password authentication failed")
	assert.NotContains(t, line, "tries")
	assert.NotContains(t, line, "hunter2")
}

func TestAConnectionStringThatIsNoneIsRefused(t *testing.T) {
	w := setup(t)
	w.url = "postgres://alice:hun%ter2@db/shop"
	line := w.refused("status")
	assert.Contains(t, line, "--database-url")
	assert.NotContains(t, line, "ter2")
}

func TestAMissingSchemaIsRefusedWithItsRemedy(t *testing.T) {
	w := setup(t)
	w.url = dbtest.NewEmpty(t)
	for _, args := range [][]string{{"status"}, {"enqueue", "increment"}, {"run"}, {"enable"}, {"wait", "x"}} {
		assert.Contains(t, w.refused(args...), "bbm-runner schema up", args)
	}
}

func TestASchemaOfAnotherVersionIsRefusedWithItsRemedy(t *testing.T) {
	w := setup(t)
	w.exec(`INSERT INTO bbm.goose_db_version (version_id, is_applied) VALUES (99999, true)`)
	assert.Contains(t, w.refused("status"), "newer")
	assert.Contains(t, w.refused("schema", "up"), "newer")
	assert.Contains(t, w.refused("schema", "down", "--force"), "newer")
	w.exec(`DELETE FROM bbm.goose_db_version WHERE version_id >= (SELECT max(version_id) FROM bbm.goose_db_version WHERE version_id < 99999)`)
	assert.Contains(t, w.refused("status"), "schema up")
	assert.Contains(t, w.refused("schema", "down"), "schema up")
}
