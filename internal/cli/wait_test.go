package cli

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWaitExits3WhenAMigrationFailed(t *testing.T) {
	w := setup(t)
	w.file("divide", divide)
	w.ok("enqueue", "increment")
	w.ok("enqueue", "divide", "--max-attempts", "1", "--name", "doomed")
	w.run("run", "--until-idle")
	r := w.run("wait", "increment", "doomed")
	assert.Equal(t, exitNotDone, r.code)
	assert.Contains(t, r.stderr, "bbm-runner: doomed failed: max_attempts: ")
	assert.Equal(t, 1, strings.Count(r.stderr, "\n"))
}

func TestWaitExits3WhenAMigrationWasCancelled(t *testing.T) {
	w := setup(t)
	w.ok("enqueue", "increment")
	w.ok("cancel", "increment")
	r := w.run("wait", "increment")
	assert.Equal(t, exitNotDone, r.code)
	assert.Equal(t, "bbm-runner: increment was cancelled\n", r.stderr)
}

func TestWaitExits4WhenTimeRanOut(t *testing.T) {
	w := setup(t)
	w.ok("enqueue", "increment", "--paused")
	r := w.run("wait", "increment", "--timeout", "1s")
	assert.Equal(t, exitTimedOut, r.code)
	assert.Contains(t, r.stderr, "bbm-runner: not finished after 1s: increment is paused 0.0 %")
	assert.Equal(t, 1, strings.Count(r.stderr, "\n"))
}

func TestWaitEndsWhenTheMigrationDoes(t *testing.T) {
	w := setup(t)
	w.ok("enqueue", "increment")
	done := make(chan result, 1)
	go func() { done <- w.run("wait", "increment", "--timeout", "1m") }()
	w.ok("run", "--until-idle")
	r := <-done
	assert.Equal(t, exitDone, r.code, r.stderr)
	assert.True(t, strings.HasSuffix(r.stdout, "increment finished 100.0 %, 100 rows\n"), r.stdout)
}

func TestAQuietWaitShowsNothingButWhyItFails(t *testing.T) {
	w := setup(t)
	w.ok("enqueue", "increment")
	r := w.run("wait", "increment", "--quiet", "--timeout", "1ms")
	assert.Equal(t, exitTimedOut, r.code)
	assert.Equal(t, 1, strings.Count(r.stderr, "\n"), r.stderr)
	w.ok("run", "--until-idle")
	assert.Empty(t, r.stdout+w.ok("wait", "increment", "--quiet"))
}

func TestAnInterruptedWaitFails(t *testing.T) {
	w := setup(t)
	w.ok("enqueue", "increment")
	ctx, cancel := context.WithCancel(t.Context())
	var stdout, stderr buffer
	code := make(chan int, 1)
	go func() {
		code <- Run(ctx, Program{Args: []string{"--database-url", w.url, "wait", "increment"}, Environ: w.environ, Stdout: &stdout, Stderr: &stderr})
	}()
	require.Eventually(t, func() bool { return stdout.String() != "" }, time.Minute, time.Millisecond)
	cancel()
	assert.Equal(t, exitFailed, <-code)
	assert.Equal(t, "bbm-runner: interrupted\n", stderr.String())
}

func TestWatchPrintsALineForEachChangeUntilNothingCanProceed(t *testing.T) {
	w := setup(t)
	w.ok("enqueue", "increment")
	var stdout buffer
	code := make(chan int, 1)
	go func() {
		code <- Run(t.Context(), Program{Args: []string{"--database-url", w.url, "status", "--watch"}, Environ: w.environ, Stdout: &stdout, Stderr: &buffer{}})
	}()
	require.Eventually(t, func() bool { return strings.Contains(stdout.String(), "increment active 0.0 %") }, time.Minute, time.Millisecond)
	w.ok("run", "--until-idle")
	assert.Equal(t, exitDone, <-code)
	assert.True(t, strings.HasSuffix(stdout.String(), "increment finished 100.0 %, 100 rows\n"), stdout.String())
	r := w.run("status", "--watch")
	assert.Equal(t, exitDone, r.code)
	assert.Contains(t, r.stderr, "nothing to watch")
	assert.Equal(t, 1, strings.Count(w.ok("status", "increment", "--watch", "--json"), "\n"))
}
