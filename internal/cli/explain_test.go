package cli

import (
	"encoding/json"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestExplainShowsWhatWouldRun(t *testing.T) {
	w := setup(t)
	w.file("add", withArgument)
	before := w.dump()
	out := w.ok("explain", "add", "--arg", "summand=7")
	for _, want := range []string{
		"table          app.items\n", "cursor         id, by the index items_pkey\n", "arguments      summand = '7'\n",
		"sub-batches    ~1 of 1,000 rows at first (chosen by the runner)\n",
		"\nBOUNDARY QUERY", "enable_sort", "\nWORK STATEMENT", "UPDATE app.items AS i SET n = n + ($2::text::int)", "-- $1 = '100', $2 = '7'\n",
		"Update on items i", "\napp.items: update of n\n", "  HOT           where the page has room", "index         CREATE UNIQUE INDEX items_pkey",
		"\nWARNINGS\n  - app.items has fillfactor 100",
	} {
		assert.Contains(t, out, want)
	}
	assert.Equal(t, before, w.dump())
}

func TestExplainPrintsOneObject(t *testing.T) {
	w := setup(t)
	var e struct {
		Work      string
		Statement struct{ SQL string }
		Warnings  []struct{ Code string }
	}
	require.NoError(t, json.Unmarshal([]byte(w.ok("explain", "increment", "--json")), &e))
	assert.Equal(t, "increment", e.Work)
	assert.Contains(t, e.Statement.SQL, "UPDATE app.items")
	assert.NotEmpty(t, e.Warnings)
}

func TestExplainFindsTheWorkFirstAndTheMigrationWhereAskedTo(t *testing.T) {
	w := setup(t)
	w.exec("ANALYZE app.items")
	w.file("add", withArgument)
	w.ok("enqueue", "add", "--arg", "summand=7", "--batch-size", "40")
	w.ok("enqueue", "add", "--name", "nightly", "--arg", "summand=9", "--sub-batch-size", "20")
	assert.Contains(t, w.refused("explain", "add"), `argument "summand" (int) is missing`)
	assert.Contains(t, w.ok("explain", "add", "--migration"), "migration      add\n")
	assert.Contains(t, w.ok("explain", "add", "--migration"), "summand = '7'")
	out := w.ok("explain", "nightly")
	assert.Contains(t, out, "migration      nightly\n")
	assert.Contains(t, out, "summand = '9'")
	assert.Contains(t, out, "sub-batches    ~5 of 20 rows\n")
	assert.Contains(t, w.refused("explain", "nightly", "--arg", "summand=1"), "leave out --arg")
	assert.Contains(t, w.refused("explain", "increment", "--migration"), `there is no migration "increment"`)
	assert.Contains(t, w.refused("explain", "nothing"), `there is no work and no migration "nothing"; there are the works add, increment`)
	w.exec("DROP SCHEMA bbm CASCADE")
	assert.Contains(t, w.ok("explain", "increment"), "app.items", "a work needs no tables of ours")
	assert.Contains(t, w.refused("explain", "nothing"), `there is no work "nothing"`)
	assert.Contains(t, w.refused("explain", "nothing", "--migration"), "schema up")
}

func TestExplainAndSampleRefuseWhatCannotRun(t *testing.T) {
	w := setup(t)
	w.file("add", withArgument)
	w.file("typo", "-- description: d\n-- table: app.items\n-- cursor: id\n\n-- +bbm Work\nUPDATE app.items AS i\n   SET n = n + 1\n WHERE @batch(i) AND i.nn = 1")
	w.file("elsewhere", "-- description: d\n-- table: app.nowhere\n-- cursor: id\n\n-- +bbm Work\nDELETE FROM app.nowhere WHERE @batch")
	for _, command := range []string{"explain", "sample"} {
		assert.Contains(t, w.refused(command, "typo"), "typo.sql:8: column i.nn does not exist")
		assert.Contains(t, w.refused(command, "elsewhere"), "table app.nowhere does not exist")
		assert.Contains(t, w.refused(command, "add"), `argument "summand" (int) is missing`)
		assert.Contains(t, w.refused(command, "add", "--arg", "summand=x"), `argument "summand" is no int`)
		assert.Contains(t, w.refused(command, "increment", "--arg", "x=1"), `unknown argument "x"`)
		assert.Contains(t, w.refused(command, "increment", "--arg", "x"), `is no key=value`)
		assert.Contains(t, w.refused(command, "nothing"), `"nothing"`)
		assert.Contains(t, w.refused(command), "needs WORK")
	}
	w.file("broken", "SELECT 1;")
	for _, command := range []string{"explain", "sample"} {
		assert.Contains(t, w.refused(command, "broken"), "broken.sql:1: ")
	}
}

func TestWhatIsNotPermittedIsRefused(t *testing.T) {
	w := setup(t)
	if !one[bool](w, "SELECT current_setting('is_superuser') = 'on'") {
		t.Skip("the tests' role is no superuser")
	}
	role := pgx.Identifier{"cli_" + one[string](w, "SELECT current_database()")}.Sanitize()
	w.exec("CREATE ROLE " + role + " LOGIN; GRANT USAGE ON SCHEMA app TO " + role + "; GRANT SELECT ON app.items TO " + role)
	defer w.exec("DROP OWNED BY " + role + "; DROP ROLE " + role)
	w.url += "&options=-c%20role%3D" + role[1:len(role)-1]
	for _, command := range []string{"explain", "sample"} {
		r := w.run(command, "increment")
		w.requireRefusal(r)
		assert.Contains(t, r.stderr, "increment.sql", command)
		assert.Contains(t, r.stderr, "permission denied for table items", command)
	}
}
