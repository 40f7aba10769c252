package localpg_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/localpg"
)

// keptParent returns a folder that the server's user can enter.
func keptParent(t *testing.T) string {
	t.Helper()
	parent, err := os.MkdirTemp("", "localpg-kept-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(parent, 0o755))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(parent)) })
	return parent
}

func startKept(t *testing.T, path string) (*localpg.Server, error) {
	t.Helper()
	server, err := localpg.Start(t.Context(), localpg.Options{BinDir: os.Getenv("BBM_TEST_POSTGRES_BIN"), Kept: path})
	if err == nil {
		t.Cleanup(func() { require.NoError(t, server.Stop()) })
	}
	return server, err
}

func TestAKeptClusterOutlivesItsServer(t *testing.T) {
	t.Parallel()
	path := filepath.Join(keptParent(t), "cluster")
	first, err := startKept(t, path)
	require.NoError(t, err)
	_, err = connect(t, first).Exec(t.Context(), "CREATE TABLE kept AS SELECT 42 AS n")
	require.NoError(t, err)

	_, err = startKept(t, path)
	require.ErrorIs(t, err, localpg.ErrInUse)
	require.NoError(t, first.Stop())

	second, err := startKept(t, path)
	require.NoError(t, err)
	require.Equal(t, 42, queryInt(t, connect(t, second), "SELECT n FROM kept"))
}

func TestAKeptClusterStandsInNoFolderThatOthersCanEnter(t *testing.T) {
	t.Parallel()
	path := filepath.Join(keptParent(t), "cluster")
	require.NoError(t, os.Mkdir(path, 0o755))
	require.NoError(t, os.Chmod(path, 0o755))
	_, err := startKept(t, path)
	require.ErrorContains(t, err, "belongs to")
}
