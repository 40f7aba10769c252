package localpg_test

import (
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/localpg"
)

// setup starts a server in a folder that the server's user can enter: t.TempDir is closed to others.
func setup(t *testing.T) (server *localpg.Server, parent string) {
	t.Helper()
	parent, err := os.MkdirTemp("", "localpg-test-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(parent, 0o755))
	server, err = localpg.Start(t.Context(), localpg.Options{
		BinDir:   os.Getenv("BBM_TEST_POSTGRES_BIN"),
		Dir:      parent,
		Settings: map[string]string{"max_connections": "17"},
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, server.Stop())
		require.NoError(t, os.Remove(parent))
	})
	return server, parent
}

func connect(t *testing.T, server *localpg.Server) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.URL("postgres"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return conn
}

func queryInt(t *testing.T, conn *pgx.Conn, sql string) (n int) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&n))
	return n
}

func TestServerRunsWithItsSettingsAndTellsItsVersion(t *testing.T) {
	t.Parallel()
	server, _ := setup(t)
	conn := connect(t, server)
	require.Equal(t, 17, queryInt(t, conn, "SELECT current_setting('max_connections')::int"))
	require.Equal(t, server.Version(), queryInt(t, conn, "SELECT current_setting('server_version_num')::int / 10000"))
}

func TestServerRefusesAWrongPassword(t *testing.T) {
	t.Parallel()
	server, _ := setup(t)
	u, err := url.Parse(server.URL("postgres"))
	require.NoError(t, err)
	u.User = url.UserPassword(u.User.Username(), "wrong")
	_, err = pgx.Connect(t.Context(), u.String())
	require.ErrorContains(t, err, "28P01")
}

func TestDataSurviveACrashAndARestart(t *testing.T) {
	t.Parallel()
	server, _ := setup(t)
	before := server.URL("postgres")
	conn := connect(t, server)
	_, err := conn.Exec(t.Context(), "CREATE TABLE kept AS SELECT 42 AS n")
	require.NoError(t, err)

	server.Crash()
	server.Crash()
	require.Error(t, conn.Ping(t.Context()), "a crash cuts sessions off")
	require.NoError(t, server.Restart(t.Context()))
	require.Equal(t, before, server.URL("postgres"))
	require.Equal(t, 42, queryInt(t, connect(t, server), "SELECT n FROM kept"))

	require.NoError(t, server.Restart(t.Context()), "a restart of a running server")
	require.Equal(t, 42, queryInt(t, connect(t, server), "SELECT n FROM kept"))
}

func TestRestartSucceedsAfterTheServerWasKilled(t *testing.T) {
	t.Parallel()
	server, parent := setup(t)
	conn := connect(t, server)
	require.Equal(t, 1, queryInt(t, conn, "SELECT 1"))
	killServer(t, parent)
	require.NoError(t, server.Restart(t.Context()))
	require.Equal(t, 2, queryInt(t, connect(t, server), "SELECT 2"))
}

func TestStopRemovesTheFolderAndEndsTheServerForGood(t *testing.T) {
	t.Parallel()
	server, parent := setup(t)
	require.NoError(t, server.Stop())
	require.NoError(t, server.Stop(), "a second stop does nothing")
	entries, err := os.ReadDir(parent)
	require.NoError(t, err)
	require.Empty(t, entries)

	_, err = pgx.Connect(t.Context(), server.URL("postgres"))
	require.Error(t, err)
	require.ErrorContains(t, server.Restart(t.Context()), "stopped")
	server.Crash()
}

func TestAStartThatFailsTellsWhyAndLeavesNothing(t *testing.T) {
	t.Parallel()
	parent, err := os.MkdirTemp("", "localpg-test-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(parent, 0o755))
	_, err = localpg.Start(t.Context(), localpg.Options{
		BinDir:   os.Getenv("BBM_TEST_POSTGRES_BIN"),
		Dir:      parent,
		Settings: map[string]string{"no_such_setting": "1"},
	})
	require.ErrorContains(t, err, `unrecognized configuration parameter "no_such_setting"`)
	require.NoError(t, os.Remove(parent), "the folder is empty")
}

func TestAFolderWithoutBinariesIsNotFound(t *testing.T) {
	t.Parallel()
	empty := t.TempDir()
	_, err := localpg.Start(t.Context(), localpg.Options{BinDir: empty})
	require.ErrorIs(t, err, localpg.ErrNotFound)
	require.ErrorContains(t, err, empty)
	require.ErrorContains(t, err, "apt install postgresql")
}

func TestFindResolvesARelativeFolder(t *testing.T) {
	t.Parallel()
	dir, major, err := localpg.Find(t.Context(), os.Getenv("BBM_TEST_POSTGRES_BIN"))
	require.NoError(t, err)
	require.GreaterOrEqual(t, major, 14)

	here, err := os.Getwd()
	require.NoError(t, err)
	relative, err := filepath.Rel(here, dir)
	require.NoError(t, err)
	found, _, err := localpg.Find(t.Context(), relative)
	require.NoError(t, err)
	require.Equal(t, dir, found)
}
