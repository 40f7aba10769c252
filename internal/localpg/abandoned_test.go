package localpg_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/localpg"
)

// parentVariable makes this test binary a program that starts a server in the folder it names, prints the
// server's URL and waits to be killed.
const parentVariable = "LOCALPG_TEST_PARENT"

func TestMain(m *testing.M) {
	parent := os.Getenv(parentVariable)
	if parent == "" {
		os.Exit(m.Run())
	}
	server, err := localpg.Start(context.Background(), localpg.Options{BinDir: os.Getenv("BBM_TEST_POSTGRES_BIN"), Dir: parent})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(server.URL("postgres"))
	select {}
}

func TestAKilledParentTakesItsServerAlongAndTheNextStartTidiesUp(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells a child of its parent's end")
	}
	t.Parallel()
	_, parent := setup(t)
	before, err := os.ReadDir(parent)
	require.NoError(t, err)

	program := exec.CommandContext(t.Context(), os.Args[0])
	program.Env = append(os.Environ(), parentVariable+"="+parent)
	output, err := program.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, program.Start())
	line, err := bufio.NewReader(output).ReadString('\n')
	require.NoError(t, err)
	url := strings.TrimSpace(line)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err, url)
	defer func() { _ = conn.Close(t.Context()) }()

	require.NoError(t, program.Process.Kill())
	require.Error(t, program.Wait())
	require.Eventually(t, func() bool {
		other, err := pgx.Connect(t.Context(), url)
		if err == nil {
			_ = other.Close(t.Context())
		}
		return err != nil
	}, time.Minute, 10*time.Millisecond, "the kernel ends the server of a killed parent")

	next, err := localpg.Start(t.Context(), localpg.Options{BinDir: os.Getenv("BBM_TEST_POSTGRES_BIN"), Dir: parent})
	require.NoError(t, err)
	require.NoError(t, next.Stop())
	after, err := os.ReadDir(parent)
	require.NoError(t, err)
	require.Equal(t, before, after, "the abandoned folder is gone, the one in use is not")
}

// killServer kills the one server that runs in parent as kill -9 does.
func killServer(t *testing.T, parent string) {
	t.Helper()
	pidFiles, err := filepath.Glob(filepath.Join(parent, "*", "data", "postmaster.pid"))
	require.NoError(t, err)
	require.Len(t, pidFiles, 1)
	text, err := os.ReadFile(pidFiles[0])
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.SplitN(string(text), "\n", 2)[0])
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
}
