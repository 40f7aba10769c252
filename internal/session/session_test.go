package session_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/localpg"
	"github.com/bbm-runner/bbm-runner/internal/session"
)

func TestConnectingLeavesNoErrorInTheServersLog(t *testing.T) {
	t.Parallel()
	server, err := localpg.Start(t.Context(), localpg.Options{BinDir: os.Getenv(dbtest.BinVariable)})
	if errors.Is(err, localpg.ErrNotFound) {
		t.Skipf("needs a server of its own: %v", err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	config, err := pgx.ParseConfig(server.URL("postgres"))
	require.NoError(t, err)

	conn, err := session.Connect(t.Context(), config, session.Config{StatementTimeout: time.Minute, CheckPooling: true})
	require.NoError(t, err)
	require.Equal(t, "5s", setting(t, conn, "client_connection_check_interval"))
	require.Equal(t, "5", setting(t, conn, "tcp_keepalives_idle"))
	if server.Version() >= 17 {
		require.Equal(t, "0", setting(t, conn, "transaction_timeout"))
	}
	listener, err := session.Listen(t.Context(), config, "some_channel")
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `SELECT 1 / 0`)
	require.Error(t, err)
	for _, each := range []*pgx.Conn{conn, listener} {
		require.NoError(t, each.Close(context.WithoutCancel(t.Context())))
	}

	log, err := os.ReadFile(server.LogPath())
	require.NoError(t, err)
	require.Contains(t, string(log), "ERROR:  division by zero", "the log is read to its end")
	require.NotContains(t, string(log), "unrecognized")
	require.Len(t, failures(string(log)), 1, string(log))
}

func setting(t *testing.T, conn *pgx.Conn, name string) (value string) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT current_setting($1)`, name).Scan(&value))
	return value
}

// failures are the lines of a server's log that tell of one.
func failures(log string) (lines []string) {
	for line := range strings.Lines(log) {
		if strings.Contains(line, "ERROR:") || strings.Contains(line, "WARNING:") {
			lines = append(lines, line)
		}
	}
	return lines
}
