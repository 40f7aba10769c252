package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/control"
	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

// provable is a work whose rows tell whether it has changed them.
var provable = strings.Replace(increment, "-- cursor: id", "-- cursor: id\n-- remaining: n = 0", 1)

func TestAMigrationIsFinishedWithAProofAndVerifiedAgain(t *testing.T) {
	w := setup(t)
	w.file("provable", provable)
	w.ok("enqueue", "provable", "--batch-size", "30")
	r := w.run("verify", "provable")
	assert.Equal(t, exitRemain, r.code)
	assert.Equal(t, "bbm-runner: 100 of 100 rows remain\n", r.stderr)
	assert.Equal(t, `work           provable
table          app.items
remaining      n = 0
rows walked    100
rows remain    100
some of them   with the keys 1; 2; 3; 4; 5; …
`, r.stdout)

	w.ok("run", "--until-idle")
	before := w.dump()
	assert.Contains(t, w.ok("verify", "provable"), "rows walked    100\nrows remain    0\n")
	assert.Regexp(t, `(?m)^  remaining       n = 0\n  proof           100 rows looked at until 20\S+Z, none remains$`, w.ok("status", "provable"))
	var shown []control.Migration
	require.NoError(t, json.Unmarshal([]byte(w.ok("status", "--json")), &shown))
	assert.Nil(t, shown[0].Verification)
	assert.EqualValues(t, 100, shown[0].Proof.Rows)
	assert.Contains(t, shown[0].Proof.Statement, `(n = 0) IS TRUE THEN`)
	assert.False(t, shown[0].Proof.VerifiedAt.Before(*shown[0].StartedAt))

	w.exec(`INSERT INTO app.items (id) VALUES (-7), (500)`)
	r = w.run("verify", "provable", "--json")
	assert.Equal(t, exitRemain, r.code)
	var found control.Verified
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &found))
	assert.Equal(t, []int64{102, 2}, []int64{found.Rows, found.RemainingRows})
	assert.JSONEq(t, `[["-7"], ["500"]]`, string(mustJSON(t, found.RemainingKeys)))
	w.exec(`DELETE FROM app.items WHERE id IN (-7, 500)`)
	assert.Equal(t, before, w.dump(), "a look changes nothing")
	dbtest.CheckHistory(t, w.conn, "provable")
}

func mustJSON(t *testing.T, value any) []byte {
	t.Helper()
	encoded, err := json.Marshal(value)
	require.NoError(t, err)
	return encoded
}

func TestVerifyOfAnEmptyTable(t *testing.T) {
	w := setup(t)
	w.exec(`TRUNCATE app.items`)
	w.file("provable", provable)
	w.ok("enqueue", "provable")
	assert.Contains(t, w.ok("verify", "provable"), "rows walked    0\nrows remain    0\n")
	assert.Contains(t, w.ok("status", "provable"), "0 rows looked at until")
	dbtest.CheckHistory(t, w.conn, "provable")
}

func TestVerifyRefusesWhatItCannotJudge(t *testing.T) {
	w := setup(t)
	w.file("provable", provable)
	w.ok("enqueue", "increment")
	w.ok("enqueue", "provable")
	assert.Contains(t, w.refused("verify", "increment"), `the work "increment" does not say what remains to be done, so there is nothing to verify by; add -- remaining:`)
	assert.Contains(t, w.refused("verify", "other"), `there is no migration "other"`)
	assert.Contains(t, w.refused("verify"), "verify needs NAME")
	w.file("provable", strings.Replace(provable, "n = 0", "gone = 0", 1))
	assert.Contains(t, w.refused("verify", "provable"), `provable.sql:4: remaining: column "gone" does not exist`)
	w.file("provable", strings.Replace(provable, "app.items", "app.others", 2))
	w.exec(`CREATE TABLE app.others (id bigint PRIMARY KEY, n integer)`)
	assert.Contains(t, w.refused("verify", "provable"), `the work "provable" is for app.others, but migration "provable" ran on another table, app.items`)
}

func TestEnqueueRefusesAWorkWithABadPredicate(t *testing.T) {
	w := setup(t)
	w.file("provable", strings.Replace(provable, "n = 0", "n", 1))
	assert.Contains(t, w.refused("enqueue", "provable"), "provable.sql:4: remaining: argument of WHERE must be type boolean, not type integer")
	w.file("provable", strings.Replace(provable, "n = 0", "n = 0; TRUNCATE app.items", 1))
	r := w.run("enqueue", "provable")
	assert.Equal(t, exitInput, r.code)
	assert.Contains(t, r.stderr, "provable.sql:4: the remaining holds a semicolon; it is one predicate")
}

func TestARetryGivesThreePassesAgainAndMayAdoptAnotherPredicate(t *testing.T) {
	w := setup(t)
	w.file("provable", strings.Replace(provable, "n = 0", "n < 1000", 1))
	w.ok("enqueue", "provable", "--batch-size", "50")
	r := w.run("run", "--until-idle")
	assert.Equal(t, exitFailed, r.code)
	w.exec(`UPDATE app.items SET n = 0`)
	assert.Contains(t, w.ok("status", "provable"), "rows_remaining: after 3 passes 100 of 100 rows remain, for which this holds: n < 1000; with the keys 1; 2; 3; 4; 5; …")
	assert.Equal(t, 4, one[int](w, `SELECT count(*) FROM bbm.batched_background_migration_verifications`))
	dbtest.CheckHistory(t, w.conn, "provable")

	w.ok("retry", "provable")
	assert.Equal(t, exitFailed, w.run("run", "--until-idle").code)
	assert.Equal(t, 8, one[int](w, `SELECT count(*) FROM bbm.batched_background_migration_verifications`))

	w.exec(`UPDATE app.items SET n = (id <> 77)::int`)
	w.file("provable", provable)
	w.ok("retry", "provable", "--accept-work")
	w.ok("run", "--until-idle")
	assert.Contains(t, w.ok("status", "provable"), "  remaining       n = 0\n")
	assert.Equal(t, 100, one[int](w, `SELECT count(*) FROM app.items WHERE n = 1`), "only the row that remained was changed again")
	dbtest.CheckHistory(t, w.conn, "provable")
}

func TestRowsInQuarantineStandInTheWayOfNoProof(t *testing.T) {
	w := setup(t)
	w.file("provable", provable)
	w.exec(`ALTER TABLE app.items ADD CONSTRAINT odd CHECK (n = 0 OR id NOT IN (41, 42))`)
	// An old version of the application writes behind the frontier, beside the rows that are left out.
	w.exec(`CREATE SEQUENCE app.written`)
	w.exec(`CREATE FUNCTION app.write_old() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		UPDATE app.items SET n = 0 WHERE id = 40 AND nextval('app.written') = 2; RETURN NULL; END $$`)
	w.ok("enqueue", "provable", "--batch-size", "50", "--sub-batch-size", "25", "--on-row-error", "quarantine")
	w.exec(`CREATE TRIGGER write_old AFTER UPDATE ON app.items FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION app.write_old()`)
	w.ok("run", "--until-idle")
	assert.Equal(t, 1, one[int](w, `SELECT n FROM app.items WHERE id = 40`))
	assert.Contains(t, w.run("verify", "provable").stdout, "rows remain    none but 2 in quarantine\n")
	dbtest.CheckHistory(t, w.conn, "provable")

	w.exec(`ALTER TABLE app.items DROP CONSTRAINT odd`)
	w.ok("quarantine", "retry", "provable")
	w.ok("run", "--until-idle")
	assert.Equal(t, 100, one[int](w, `SELECT count(*) FROM app.items WHERE n = 1`))
	assert.Contains(t, w.ok("status", "provable"), "100 rows looked at until")
	dbtest.CheckHistory(t, w.conn, "provable")
}
