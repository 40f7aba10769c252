package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

func TestTheCommandGetsAServerAndItsExitCodeIsPassedOn(t *testing.T) {
	code, err := run([]string{"sh", "-c", `test -n "$` + dbtest.URLVariable + `" && exit 7`})
	require.NoError(t, err)
	require.Equal(t, 7, code)

	code, err = run([]string{"true"})
	require.NoError(t, err)
	require.Zero(t, code)
}

func TestASignalReachesTheCommandAndWhatItRuns(t *testing.T) {
	ready := filepath.Join(t.TempDir(), "ready")
	require.NoError(t, syscall.Mkfifo(ready, 0o600))
	signals := make(chan os.Signal, 1)
	go func() {
		// Opening the pipe ends when the inner shell writes to it.
		_, _ = os.ReadFile(ready)
		signals <- syscall.SIGTERM
	}()
	// The inner shell tells by its exit code that the signal came to it and not only to its parent.
	code, err := execute(t.Context(), []string{
		"sh", "-c", `trap : TERM; sh -c 'trap "exit 5" TERM; echo > "$0"; while :; do :; done' "$0"; exit $?`, ready,
	}, "", signals)
	require.NoError(t, err)
	require.Equal(t, 5, code)
}
