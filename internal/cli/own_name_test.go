package cli

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

// named calls the command line under another name, as a program with works of its own does.
func (w *world) named(name string, args ...string) result {
	w.t.Helper()
	var stdout, stderr buffer
	args = append([]string{"--database-url", w.url, "--works", w.works}, args...)
	code := Run(w.t.Context(), Program{
		Name: name, Args: args, Environ: w.environ, Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr,
	})
	return result{code, stdout.String(), stderr.String()}
}

func TestEveryHintNamesTheProgramAsItIsCalled(t *testing.T) {
	w := setup(t)
	w.file("divide", divide)
	w.ok("enqueue", "divide", "--max-attempts", "1")
	w.named("own-works", "run", "--until-idle")
	w.ok("enqueue", "increment", "--paused")
	for hint, args := range map[string][]string{
		"own-works status":                 {"cancel", "nowhere"},
		"own-works retry divide":           {"status", "divide"},
		"own-works resume increment":       {"retry", "increment"},
		"own-works enable":                 {"enable", "--help"},
		"own-works set --help":             {"set", "increment"},
		"own-works cancel increment":       {"delete", "increment"},
		"own-works enqueue users_email_lo": {"--help"},
	} {
		r := w.named("own-works", args...)
		assert.Contains(t, r.stdout+r.stderr, hint, args)
		assert.NotContains(t, r.stdout+r.stderr, "bbm-runner ", args)
	}
	w.url = dbtest.NewEmpty(t)
	assert.Contains(t, w.named("own-works", "status").stderr, "run: own-works schema up\n")
	assert.Contains(t, w.named("bbm-runner", "status").stderr, "run: bbm-runner schema up\n")
}

func TestTheProductKeepsItsName(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	own := &ownName{&out, "own-works", map[string]bool{"status": true}}
	text := "the tables of bbm-runner are at version 7; /* bbm-runner: count */ see: bbm-runner status x, bbm-runner unheard\n"
	n, err := own.Write([]byte(text))
	require.NoError(t, err)
	assert.Equal(t, len(text), n)
	assert.Equal(t, strings.Replace(text, "bbm-runner status", "own-works status", 1), out.String())
	assert.False(t, isTerminal(own), "there is no file behind it")
	assert.Equal(t, os.Stdout.Fd(), (&ownName{Writer: os.Stdout}).Fd())
}
