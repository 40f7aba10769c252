package session_test

import (
	"io"
	"net"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/session"
)

// cutting passes the first connection on to the server, and cuts the others off.
func cutting(t *testing.T, target, sslmode string) *pgx.ConnConfig {
	t.Helper()
	u, err := url.Parse(target)
	require.NoError(t, err)
	server := u.Host
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	var connections atomic.Int32
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // the test has ended
			}
			if connections.Add(1) > 1 {
				_ = client.Close()
				continue
			}
			upstream, err := net.Dial("tcp", server)
			if err != nil {
				_ = client.Close()
				continue
			}
			go func() { _, _ = io.Copy(upstream, client); _ = upstream.Close() }()
			go func() { _, _ = io.Copy(client, upstream); _ = client.Close() }()
		}
	}()
	u.Host = listener.Addr().String()
	query := u.Query()
	query.Set("sslmode", sslmode)
	u.RawQuery = query.Encode()
	config, err := pgx.ParseConfig(u.String())
	require.NoError(t, err)
	return config
}

func TestACutAttemptWithoutTLSIsNotTakenForTheServersLackOfIt(t *testing.T) {
	t.Parallel()
	target := dbtest.NewEmpty(t)
	conn := dbtest.Connect(t, target)
	var ssl string
	require.NoError(t, conn.QueryRow(t.Context(), `SHOW ssl`).Scan(&ssl))
	if ssl == "on" {
		t.Skip("this server has TLS")
	}
	var failed *session.ConnectError
	_, err := session.Connect(t.Context(), cutting(t, target, "prefer"), session.Config{})
	require.ErrorAs(t, err, &failed)
	require.False(t, failed.Lasting, err)
	require.True(t, session.MayPass(err))
	require.NotContains(t, err.Error(), "TLS")

	_, err = session.Connect(t.Context(), cutting(t, target, "require"), session.Config{})
	require.ErrorAs(t, err, &failed)
	require.True(t, failed.Lasting, err)
	require.Contains(t, err.Error(), "the server has no TLS, and sslmode asks for it")
}
