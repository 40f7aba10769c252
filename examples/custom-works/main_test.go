package main

import (
	"bytes"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

// asProgram makes the test binary the example itself.
const asProgram = "BBM_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	dbtest.Main(m)
}

// example is the program on a database of its own.
type example struct {
	t   *testing.T
	url string
}

// run calls the program as a shell would and returns its exit code and what it printed.
func (e *example) run(key string, args ...string) (code int, stdout, stderr string) {
	e.t.Helper()
	var out, problems bytes.Buffer
	command := exec.CommandContext(e.t.Context(), os.Args[0], args...)
	command.Env = append(os.Environ(), asProgram+"=yes", "BBM_DATABASE_URL="+e.url, "BBM_ENABLED=true", "BBM_POLL_INTERVAL=20ms", "EMAIL_DIGEST_KEY="+key)
	command.Stdout, command.Stderr = &out, &problems
	if err := command.Run(); err != nil {
		require.ErrorAs(e.t, err, new(*exec.ExitError))
	}
	return command.ProcessState.ExitCode(), out.String(), problems.String()
}

func (e *example) ok(args ...string) string {
	e.t.Helper()
	code, stdout, stderr := e.run("secret", args...)
	require.Zero(e.t, code, "%v: %s", args, stderr)
	return stdout
}

func TestTheExampleFillsEveryDigest(t *testing.T) {
	t.Parallel()
	e := &example{t: t, url: dbtest.NewEmpty(t)}
	conn := dbtest.Connect(t, e.url)
	tables, err := os.ReadFile("schema.sql")
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), string(tables))
	require.NoError(t, err)

	e.ok("schema", "up")
	e.ok("enable")
	assert.Contains(t, e.ok("works"), "users_email_digest")
	assert.Equal(t, "users_email_digest\n", e.ok("enqueue", "users_email_digest", "--batch-size", "2000", "--sub-batch-size", "500", "--max-attempts", "1"))

	code, _, stderr := e.run("", "run", "--until-idle")
	assert.Equal(t, 1, code)
	assert.Contains(t, stderr, "EMAIL_DIGEST_KEY is not set")
	e.ok("retry", "users_email_digest")
	e.ok("run", "--until-idle")
	e.ok("wait", "users_email_digest")

	rows, err := conn.Query(t.Context(), "SELECT email, email_digest FROM app.users")
	require.NoError(t, err)
	defer rows.Close()
	seen := 0
	for rows.Next() {
		var email string
		var got []byte
		require.NoError(t, rows.Scan(&email, &got))
		require.Equal(t, digest("secret", email), got, email)
		seen++
	}
	require.NoError(t, rows.Err())
	assert.Equal(t, 5000, seen)
	assert.Contains(t, e.ok("status", "users_email_digest"), "5,000 rows, 5,000 changed")
}
