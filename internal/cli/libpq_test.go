package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// process runs the command line in a process of its own, whose environment is this alone: what libpq's variables say is read from it.
func process(t *testing.T, environ []string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	command := exec.CommandContext(ctx, os.Args[0], args...)
	command.Env = append([]string{asProgram + "=yes"}, environ...)
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return result{command.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func TestTheVariablesAndFilesOfLibpqAreRead(t *testing.T) {
	w := setup(t)
	u, err := url.Parse(w.url)
	require.NoError(t, err)
	password, _ := u.User.Password()
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	database := strings.TrimPrefix(u.Path, "/")
	base := []string{"PGHOST=" + u.Hostname(), "PGPORT=" + u.Port(), "PGUSER=" + u.User.Username(), "PGDATABASE=" + database, "PGSSLMODE=disable"}
	// As in a file of passwords, where a colon or a backslash is escaped.
	entry := strings.Join([]string{u.Hostname(), u.Port(), database, u.User.Username(), strings.NewReplacer(`\`, `\\`, ":", `\:`).Replace(password)}, ":") + "\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".pgpass"), []byte(entry), 0o600))
	service := write("service.conf", fmt.Sprintf("[ours]\nhost=%s\nport=%s\ndbname=%s\nuser=%s\npassword=%s\nsslmode=disable\n",
		u.Hostname(), u.Port(), database, u.User.Username(), password))
	for name, environ := range map[string][]string{
		"PGPASSWORD":             append(base, "PGPASSWORD="+password),
		"PGPASSFILE":             append(base, "PGPASSFILE="+write("passwords", entry)),
		"~/.pgpass":              append(base, "HOME="+dir),
		"PGSERVICE":              {"PGSERVICE=ours", "PGSERVICEFILE=" + service},
		"a service in the URL":   {"BBM_DATABASE_URL=service=ours", "PGSERVICEFILE=" + service},
		"a URL before variables": {"BBM_DATABASE_URL=" + w.url, "PGHOST=/nowhere", "PGPORT=1", "PGDATABASE=none", "PGUSER=nobody", "PGPASSWORD=wrong"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, result{exitDone, "[]\n", ""}, process(t, environ, "status", "--json"))
		})
	}
	t.Run("a service that is not there", func(t *testing.T) {
		t.Parallel()
		r := process(t, []string{"PGSERVICE=other", "PGSERVICEFILE=" + service}, "status")
		w.requireRefusal(r)
		assert.Contains(t, r.stderr, "the PG* variables: the connection cannot be read (")
	})
}
