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

// withRowsLeftOut is a world whose migration "provable" is finished, but for two rows in
// quarantine.
func withRowsLeftOut(t *testing.T) *world {
	t.Helper()
	w := setup(t)
	w.exec(refuseTwo)
	w.file("provable", provable)
	w.ok("enqueue", "provable", "--on-row-error", "quarantine")
	w.ok("run", "--until-idle")
	return w
}

func TestAProofBesideAQuarantineSaysSoEverywhere(t *testing.T) {
	w := withRowsLeftOut(t)
	assert.Regexp(t, `(?m)^  proof           100 rows looked at until 20\S+Z, none remains but 2 in quarantine$`, w.ok("status", "provable"))
	var shown []control.Migration
	require.NoError(t, json.Unmarshal([]byte(w.ok("status", "--json")), &shown))
	assert.EqualValues(t, 2, shown[0].Proof.LeftOut)
	assert.Contains(t, w.ok("logs", "provable", "--migration"), "of 100 rows none remains but 2 in quarantine")

	r := w.run("verify", "provable")
	assert.Equal(t, exitRemain, r.code)
	assert.Equal(t, "bbm-runner: of 100 rows remain none but 2 in quarantine (see: bbm-runner quarantine list provable)\n", r.stderr)
	assert.Contains(t, r.stdout, "rows remain    none but 2 in quarantine\nleft out       2, in quarantine\n")
	var found control.Verified
	require.NoError(t, json.Unmarshal([]byte(w.run("verify", "provable", "--json").stdout), &found))
	assert.Equal(t, []int64{0, 2, 2}, []int64{found.RemainingRows, found.LeftOut, found.LeftOutRemaining})

	w.exec(`INSERT INTO app.items (id) VALUES (500)`)
	assert.Equal(t, "bbm-runner: 1 and 2 in quarantine of 101 rows remain\n", w.run("verify", "provable").stderr)
	w.exec(`DELETE FROM app.items WHERE id = 500`)
}

func TestARowInQuarantineThatSomebodyHasChangedDoesNotRemain(t *testing.T) {
	w := withRowsLeftOut(t)
	w.exec(`ALTER TABLE app.items DROP CONSTRAINT sound`)
	w.exec(`UPDATE app.items SET n = 1 WHERE id = 33`)
	assert.Contains(t, w.run("verify", "provable").stdout, "rows remain    none but 1 in quarantine\nleft out       2, in quarantine\n")
	w.exec(`UPDATE app.items SET n = 1 WHERE id = 77`)
	assert.Contains(t, w.ok("verify", "provable"), "rows remain    0\nleft out       2, in quarantine\n")
}

func TestAStrictWaitFailsWhereRowsAreLeftOut(t *testing.T) {
	w := withRowsLeftOut(t)
	w.ok("enqueue", "increment", "--name", "whole", "--paused")
	w.ok("cancel", "whole")
	w.ok("wait", "provable")
	r := w.run("wait", "provable", "--strict")
	assert.Equal(t, exitNotDone, r.code)
	assert.Equal(t, "provable finished 100.0 %, 100 rows: 2 rows left out (see: bbm-runner quarantine list provable)\n", r.stdout)
	assert.Equal(t, "bbm-runner: provable is finished, but with 2 rows left out (see: bbm-runner quarantine list provable)\n", r.stderr)

	w.exec(`ALTER TABLE app.items DROP CONSTRAINT sound`)
	w.ok("quarantine", "retry", "provable")
	w.ok("run", "--until-idle")
	w.ok("wait", "provable", "--strict")
	assert.Contains(t, w.ok("verify", "provable"), "rows remain    0\n")
	dbtest.CheckHistory(t, w.conn, "provable")
}

func TestTheNextStepOfAFailureBesideAQuarantineIsARetry(t *testing.T) {
	for name, tc := range map[string]struct{ work, says string }{
		"rows that remain": {strings.Replace(provable, "n = 0", "n < 1000", 1),
			"stop what writes such rows, or mend the work, then: bbm-runner retry provable (a mended work: --accept-work)"},
		"a work that does not hold": {strings.Replace(provable, "n + 1", "n + CASE WHEN i.id = 90 THEN app.gone() ELSE 1 END", 1),
			"mend what failed, then: bbm-runner retry provable (a mended work: --accept-work)"},
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t)
			w.exec(refuseTwo)
			w.exec(`CREATE FUNCTION app.gone() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN app.nowhere(); END'`)
			w.file("provable", tc.work)
			w.ok("enqueue", "provable", "--on-row-error", "quarantine", "--batch-size", "80")
			assert.Equal(t, exitFailed, w.run("run", "--until-idle").code)
			detail := w.ok("status", "provable")
			assert.Contains(t, detail, "  left out        2 rows left out")
			assert.Contains(t, detail, "  next            "+tc.says+"\n")
		})
	}
}
