package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/work"
)

func TestARunnerLeavesABrokenWorkOutAndRunsTheOthers(t *testing.T) {
	w := setup(t)
	w.file("later", increment)
	w.ok("enqueue", "increment")
	w.exec(`CREATE TABLE app.others (id bigint PRIMARY KEY, n integer); INSERT INTO app.others VALUES (1, 0)`)
	w.file("later", strings.ReplaceAll(increment, "app.items", "app.others"))
	w.ok("enqueue", "later")
	w.file("later", "SELECT 1;")
	w.goWorks = []*work.Work{{Name: "incomplete"}}

	r := w.run("run", "--until-idle")

	assert.Equal(t, exitInput, r.code, "the mistakes are told at the end again")
	assert.Equal(t, "finished", one[string](w, "SELECT status::text FROM bbm.batched_background_migrations WHERE name = 'increment'"))
	assert.Equal(t, "active", one[string](w, "SELECT status::text FROM bbm.batched_background_migrations WHERE name = 'later'"))
	assert.Regexp(t, `"level":"ERROR","msg":"a broken work is left out[^"]*".*"work":"later".*later\.sql:1: `, r.stderr)
	assert.Regexp(t, `"level":"ERROR","msg":"a broken work is left out[^"]*".*"work":"incomplete"`, r.stderr)
	assert.Contains(t, r.stderr, `warning: later is active, and is left undone: waiting for a runner that has the work "later"; it is broken in one that is connected, whose log tells the mistake`)
	assert.Regexp(t, `(?m)^.*later\.sql:1: `, r.stderr)
}

func TestABrokenWorkIsNoFaultOfARunOfAnother(t *testing.T) {
	w := setup(t)
	w.file("broken", "SELECT 1;")
	w.ok("enqueue", "increment")
	w.ok("run", "--until-idle", "--only", "increment")
}

func TestADaemonRunsOnWithABrokenWork(t *testing.T) {
	w := setup(t)
	w.file("broken", "SELECT 1;")
	w.ok("enqueue", "increment")
	d := w.startDaemon()
	d.requireEventually("it does not finish the migration", func() bool {
		return one[string](w, "SELECT status::text FROM bbm.batched_background_migrations") == "finished"
	})
	d.signal(os.Interrupt)
	require.NoError(t, <-d.exited, d.stderr)
	assert.Contains(t, d.stderr.String(), "a broken work is left out")
}

func TestARunnerOfBrokenWorksAloneDoesNotStart(t *testing.T) {
	w := setup(t)
	require.NoError(t, os.Remove(filepath.Join(w.works, "increment.sql")))
	w.file("broken", "SELECT 1;")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r := w.program(ctx, "--database-url", w.url, "--works", w.works, "run")
	assert.Equal(t, exitInput, r.code, r.stderr)
	assert.Equal(t, 1, strings.Count(r.stderr, "broken.sql:1: "), r.stderr)
}

func TestOneWorkIsAdoptedWhileAnotherIsBroken(t *testing.T) {
	w := setup(t)
	w.ok("enqueue", "increment", "--paused")
	w.file("increment", strings.Replace(increment, "n + 1", "n + 2", 1))
	w.file("broken", "SELECT 1;")
	r := w.run("resume", "increment", "--accept-work")
	assert.Equal(t, exitDone, r.code, r.stderr)
	assert.Contains(t, r.stderr, "warning: ")
	assert.Contains(t, r.stderr, "broken.sql:1: ")
}

func TestAWorkInGoThatIsIncompleteKeepsNoOtherFromBeingEnqueued(t *testing.T) {
	w := setup(t)
	w.goWorks = []*work.Work{{Name: "incomplete"}}
	r := w.run("enqueue", "increment")
	assert.Equal(t, exitDone, r.code, r.stderr)
	assert.Equal(t, exitInput, w.run("enqueue", "incomplete").code)
}
