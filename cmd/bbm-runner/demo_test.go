package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/localpg"
)

// startDemo starts a demo whose temporary files are in a folder of their own. It is the program as
// it is shipped: the demo starts it again as its worker, which the test binary cannot play.
func startDemo(t *testing.T) (cmd *exec.Cmd, output *bufio.Reader, folder string, stop func()) {
	t.Helper()
	if _, _, err := localpg.Find(t.Context(), ""); err != nil {
		t.Skip("there are no server binaries on this machine")
	}
	path := filepath.Join(t.TempDir(), "bbm-runner")
	message, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	require.NoError(t, err, "%s", message)
	// PostgreSQL's user must be able to enter it.
	folder, err = os.MkdirTemp("/tmp", "bbm-test-demo-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	require.NoError(t, os.Chmod(folder, 0o755))
	read, write, err := os.Pipe()
	require.NoError(t, err)
	cmd = exec.Command(path, "demo", "--rows", "100000")
	cmd.Env = append(os.Environ(), "TMPDIR="+folder)
	var stderr logBuffer
	cmd.Stdout, cmd.Stderr = write, &stderr
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(stderr.String())
		}
	})
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, cmd.Start())
	require.NoError(t, write.Close()) // the process has its own
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, bufio.NewReader(read), folder, func() { _ = read.Close() }
}

func requireEmpty(t *testing.T, folder string) {
	t.Helper()
	left, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Empty(t, left)
}

// readUntil reads lines of output until one has the text.
func readUntil(t *testing.T, output *bufio.Reader, text string) (line string) {
	t.Helper()
	for {
		line, err := output.ReadString('\n')
		require.NoError(t, err, "no line has %q", text)
		if strings.Contains(line, text) {
			return line
		}
	}
}

func TestADemoWhoseTerminalIsClosedLeavesNothing(t *testing.T) {
	t.Parallel()
	cmd, output, folder, _ := startDemo(t)
	readUntil(t, output, "Started a worker")
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }() // how the process ends is nobody's concern
	// The kernel sends it to the terminal's foreground processes, and the shell to its jobs.
	require.Eventually(t, func() bool {
		select {
		case <-ended:
			return true
		default:
			return syscall.Kill(-cmd.Process.Pid, syscall.SIGHUP) != nil
		}
	}, time.Minute, time.Millisecond)
	requireEmpty(t, folder)
}

func TestADemoWhoseReaderGoesAwayLeavesNothing(t *testing.T) {
	t.Parallel()
	cmd, output, folder, stop := startDemo(t)
	readUntil(t, output, "Filling")
	stop()
	require.Error(t, cmd.Wait())
	assert.Equal(t, 1, cmd.ProcessState.ExitCode(), "it ended by itself: %s", cmd.ProcessState)
	requireEmpty(t, folder)
}

func TestADemoProvesThatEachRowWasChangedOnce(t *testing.T) {
	t.Parallel()
	cmd, output, folder, _ := startDemo(t)
	for _, told := range []string{
		"Filling", "Copying", "VACUUM", "Started a worker", "Killed the worker", "Another starts", "Counting", "one plain UPDATE",
	} {
		readUntil(t, output, told)
	}
	assert.Contains(t, readUntil(t, output, "rows changed exactly once"), "  100,000\n")
	readUntil(t, output, "rate of one plain UPDATE")
	require.NoError(t, cmd.Wait())
	requireEmpty(t, folder)
}
