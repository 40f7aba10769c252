package cli

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestARunUntilIdleTellsWhatItLeavesUndoneAndWhy(t *testing.T) {
	w := setup(t)
	w.exec(`CREATE TABLE app.others (id bigint PRIMARY KEY, n integer); INSERT INTO app.others VALUES (1, 0)`)
	w.file("edited", strings.ReplaceAll(increment, "app.items", "app.others"))
	w.ok("enqueue", "increment")
	w.ok("enqueue", "edited")
	w.file("edited", strings.NewReplacer("app.items", "app.others", "n + 1", "n + 2").Replace(increment))
	w.exec(`SELECT bbm.enqueue('incremnet', 'app.items')`)
	w.ok("enqueue", "increment", "--name", "rests", "--paused")

	r := w.run("run", "--until-idle")

	assert.Equal(t, exitDone, r.code, r.stderr)
	assert.Contains(t, r.stderr, "bbm-runner: warning: edited is active, and is left undone: waiting for a runner with this version of the work (")
	assert.Contains(t, r.stderr, `bbm-runner: warning: incremnet is active, and is left undone: waiting for a runner that has the work "incremnet"`+"\n")
	assert.Regexp(t, `bbm-runner: warning: rests is paused, and is left undone: paused by .*\n`, r.stderr)
	assert.NotContains(t, r.stderr, "increment is")
	assert.Empty(t, r.stdout)
}

func TestARunOfOnlyOneMigrationThatIsLeftUndoneFails(t *testing.T) {
	w := setup(t)
	w.ok("enqueue", "increment", "--paused")
	r := w.run("run", "--until-idle", "--only", "increment", "--workers", "3")
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "warning: increment is paused, and is left undone: paused by ")
	assert.Contains(t, r.stderr, "bbm-runner: not finished: increment\n")

	w.ok("cancel", "increment")
	r = w.run("run", "--until-idle", "--only", "increment")
	assert.Equal(t, exitFailed, r.code, "a cancelled one is not finished either")
	assert.Contains(t, r.stderr, "warning: increment is cancelled, and is left undone\n")

	w.ok("enqueue", "increment", "--name", "second")
	w.ok("run", "--until-idle", "--only", "second")
	w.ok("run", "--until-idle", "--only", "second")
}

func TestARunOfAMigrationThatIsNotThereIsRefused(t *testing.T) {
	w := setup(t)
	w.ok("enqueue", "increment", "--paused")
	line := w.refused("run", "--until-idle", "--only", "incremnet")
	assert.Contains(t, line, `there is no migration "incremnet"; did you mean "increment"?`)
}

func TestADaemonMayWaitForAMigrationThatIsNotThereYet(t *testing.T) {
	w := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	var stderr buffer
	code := make(chan int, 1)
	go func() {
		code <- Run(ctx, Program{
			Args: []string{"--database-url", w.url, "--works", w.works, "run", "--only", "increment"}, Environ: w.environ, Stdout: &buffer{}, Stderr: &stderr,
		})
	}()
	require.Eventually(t, func() bool { return strings.Contains(stderr.String(), `there is no migration "increment"`) }, eventually, tick)
	w.ok("enqueue", "increment")
	require.Eventually(t, func() bool {
		return one[string](w, "SELECT status::text FROM bbm.batched_background_migrations") == "finished"
	}, eventually, tick)
	cancel()
	assert.Equal(t, exitDone, <-code, stderr.String())
}

func TestAnInterruptedRunOfOnlyOneMigrationFails(t *testing.T) {
	w := setup(t)
	w.file("sleep", strings.Replace(increment, "@batch(i)", "@batch(i) AND (SELECT true FROM pg_sleep(600))", 1))
	w.ok("enqueue", "sleep")
	w.environ = append(w.environ, "BBM_SHUTDOWN_GRACE=1ms")
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan result, 1)
	go func() {
		code <- w.program(ctx, "--database-url", w.url, "--works", w.works, "run", "--until-idle", "--only", "sleep")
	}()
	require.Eventually(t, func() bool {
		return one[int64](w, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'") == 1
	}, eventually, tick)
	cancel()
	r := <-code
	assert.Equal(t, exitFailed, r.code)
	assert.Contains(t, r.stderr, "bbm-runner: interrupted\n")
}
