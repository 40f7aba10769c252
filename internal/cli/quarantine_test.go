package cli

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

// refuseTwo is a rule that rows 33 and 77 break.
const refuseTwo = `ALTER TABLE app.items ADD CONSTRAINT sound CHECK (n = 0 OR id NOT IN (33, 77))`

func TestStatusTellsWhoeverIsOnCallWhichRowFailsByWhichRuleAndWhatToDo(t *testing.T) {
	w := setup(t)
	w.exec(refuseTwo)
	w.ok("enqueue", "increment", "--max-attempts", "1")
	assert.Equal(t, exitFailed, w.run("run", "--until-idle").code)
	detail := w.ok("status", "increment")
	for _, line := range []string{
		"  why             max_attempts: job 1 failed in 1 of 1 attempts; the last: check_violation on the row with (id) = (33), constraint sound: new row for",
		"  failed row      (id) = (33): check_violation, constraint sound: new row for",
		"  next            mend the row or the work, then: bbm-runner retry increment (a mended work: --accept-work); or leave such rows out: " +
			"bbm-runner set increment on_row_error=quarantine, then retry\n",
		"  on row error    fail\n",
	} {
		assert.Contains(t, detail, line)
	}
	assert.Contains(t, w.ok("jobs", "increment", "--status", "failed"), "check_violation on (33), constraint sound: new row for")
	assert.Contains(t, w.ok("logs", "increment"), "check_violation on (33), constraint sound: new row for")
	assert.NotContains(t, detail+w.ok("jobs", "increment")+w.ok("logs", "increment", "--json"), "Failing row", "what the server says of the row's contents")

	status := objects(t, w.ok("status", "increment", "--json"))[0]
	row := status["failed_row"].(map[string]any)
	assert.Equal(t, []any{"id"}, row["cursor"])
	assert.Equal(t, []any{"33"}, row["key"])
	assert.Equal(t, "check_violation", row["exception_class"])
	assert.Equal(t, "sound", row["exception_constraint"])
	job := objects(t, w.ok("jobs", "increment", "--json"))[0]
	assert.Equal(t, []any{"33"}, job["exception_key"])
	logs := objects(t, w.ok("logs", "increment", "--json"))
	assert.Equal(t, []any{"33"}, logs[len(logs)-1]["exception_key"])
	assert.Equal(t, "sound", logs[len(logs)-1]["exception_constraint"])
}

func TestRowsAreLeftOutListedAndTriedAgain(t *testing.T) {
	w := setup(t)
	w.exec(refuseTwo)
	w.ok("enqueue", "increment", "--max-attempts", "1")
	assert.Equal(t, exitFailed, w.run("run", "--until-idle").code)
	assert.Equal(t, "increment on_row_error=quarantine quarantine_limit=1\n", w.ok("set", "increment", "on_row_error=quarantine", "quarantine_limit=1"))
	assert.Equal(t, "increment active\n", w.ok("retry", "increment"))
	assert.Equal(t, exitFailed, w.run("run", "--until-idle").code)
	detail := w.ok("status", "increment")
	assert.Contains(t, detail, "constraint sound: the quarantine is full (1 row); new row for")
	assert.Contains(t, detail, "  left out        1 row left out (see: bbm-runner quarantine list increment)\n")
	assert.Contains(t, detail, "  next            mend the rows or the work, then: bbm-runner quarantine retry increment, and: bbm-runner retry increment\n")
	w.ok("set", "increment", "quarantine_limit=2")
	w.ok("retry", "increment")
	w.ok("run", "--until-idle")

	const left = "2 rows left out (see: bbm-runner quarantine list increment)"
	assert.Regexp(t, `^increment finished 100\.0 %, 100 rows: `+strings.NewReplacer("(", `\(`, ")", `\)`).Replace(left)+`\n$`, w.ok("wait", "increment"))
	assert.Contains(t, w.ok("status"), left)
	detail = w.ok("status", "increment")
	for _, line := range []string{
		"  why             " + left + "\n", "100 rows, 98 changed", "  on row error    quarantine, at most 2 rows\n",
		"  next            mend the rows or the work, then: bbm-runner quarantine retry increment\n",
	} {
		assert.Contains(t, detail, line)
	}
	assert.InDelta(t, 2, objects(t, w.ok("status", "--json"))[0]["quarantined_rows"], 0)
	assert.Equal(t, 2, strings.Count(w.ok("logs", "increment"), "  left out  "))
	assert.Regexp(t, `Z +1 +left out +check_violation on \(33\), constraint sound: new row for`, w.ok("logs", "increment"))
	list := w.ok("quarantine", "list", "increment")
	assert.Regexp(t, `(?m)^KEY +FAILURES +SINCE +JOB +TRIED BY +ERROR$`, list)
	assert.Regexp(t, `(?m)^33 +1 +\S+Z +1 +check_violation, constraint sound: new row for`, list)
	rows := objects(t, w.ok("quarantine", "list", "increment", "--json"))
	require.Len(t, rows, 2)
	assert.ElementsMatch(t, one[[]string](w, `SELECT array_agg(attname::text) FROM pg_attribute
		WHERE attnum > 0 AND attrelid = 'bbm.batched_background_migration_quarantined_rows'::regclass`), keys(rows[0]))
	assert.Equal(t, []any{"77"}, rows[1]["row_key"])

	w.exec(`ALTER TABLE app.items DROP CONSTRAINT sound`)
	assert.Equal(t, "increment active, 2 of 2 rows to be tried again\n", w.ok("quarantine", "retry", "increment", "--reason", "mended"))
	assert.Contains(t, w.ok("quarantine", "list", "increment"), "job ")
	assert.Equal(t, "increment active, 0 of 2 rows to be tried again\n", w.ok("quarantine", "retry", "increment"))
	w.ok("run", "--until-idle")
	assert.Equal(t, int64(100), one[int64](w, `SELECT count(*) FROM app.items WHERE n = 1`))
	assert.Regexp(t, `^increment finished 100\.0 %, 100 rows\n$`, w.ok("wait", "increment"))
	assert.Equal(t, "[]\n", w.ok("quarantine", "list", "increment", "--json"))
	assert.Equal(t, "increment finished, 0 of 0 rows to be tried again\n", w.ok("quarantine", "retry", "increment"))
	assert.Contains(t, w.ok("logs", "increment", "--migration"), ": mended")
	dbtest.CheckHistory(t, w.conn, "increment")
	w.ok("delete", "increment")
	assert.Zero(t, one[int64](w, `SELECT count(*) FROM bbm.batched_background_migration_quarantined_rows`))
}

func TestTheRowsOfAFinishedMigrationAreTriedAgainWithAMendedWork(t *testing.T) {
	w := setup(t)
	w.file("divide", strings.ReplaceAll(divide, "n / (n - n)", "n + 1 / (i.id - 33)::int + 1"))
	w.ok("enqueue", "divide", "--on-row-error", "quarantine", "--quarantine-limit", "5")
	w.ok("run", "--until-idle")
	w.file("divide", strings.ReplaceAll(divide, "n / (n - n)", "1"))
	assert.Equal(t, "divide active, 1 of 1 rows to be tried again\n", w.ok("quarantine", "retry", "divide", "--accept-work"))
	assert.Contains(t, w.refused("quarantine", "retry", "divide", "--accept-work"), "resume divide --accept-work")
	w.ok("run", "--until-idle")
	w.ok("wait", "divide")
	assert.Equal(t, int64(1), one[int64](w, `SELECT n FROM app.items WHERE id = 33`))
	assert.Equal(t, "[]\n", w.ok("quarantine", "list", "divide", "--json"))
	dbtest.CheckHistory(t, w.conn, "divide")
}

func TestWrongUseOfTheQuarantineIsRefused(t *testing.T) {
	w := setup(t)
	w.ok("enqueue", "increment")
	for _, tc := range []struct {
		args []string
		says string
	}{
		{[]string{"quarantine"}, "needs"},
		{[]string{"quarantine", "free", "increment"}, "unknown command"},
		{[]string{"quarantine", "list"}, "NAME"},
		{[]string{"quarantine", "list", "missing"}, "there is no migration"},
		{[]string{"quarantine", "retry", "missing"}, "there is no migration"},
		{[]string{"set", "increment", "on_row_error=skip"}, "give fail or quarantine"},
		{[]string{"set", "increment", "quarantine_limit=0"}, "give 1 to 10000"},
		{[]string{"set", "increment", "quarantine_limit=10001"}, "give 1 to 10000"},
		{[]string{"enqueue", "increment", "--name", "other", "--on-row-error", "skip"}, "give fail or quarantine"},
		{[]string{"enqueue", "increment", "--name", "other", "--quarantine-limit", "-1"}, "give 1 to 10000"},
	} {
		assert.Contains(t, w.refused(tc.args...), tc.says, "%v", tc.args)
	}
	r := w.run("enqueue", "increment", "--on-row-error", "quarantine", "--quarantine-limit", "7")
	assert.Equal(t, exitDone, r.code)
	assert.Contains(t, r.stderr, "on_row_error=quarantine (it has fail), quarantine_limit=7 (it has 100)")
	w.ok("cancel", "increment")
	assert.Contains(t, w.refused("quarantine", "retry", "increment"), "is cancelled")
}
