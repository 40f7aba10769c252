package dbtest_test

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

func TestAStalledProxyDeliversWhatItHeldBackWhenItHeals(t *testing.T) {
	t.Parallel()
	for name, direction := range map[string]dbtest.Direction{"to the server": dbtest.ToServer, "to the client": dbtest.ToClient} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := dbtest.NewProxy(t, dbtest.NewEmpty(t))
			conn := dbtest.Connect(t, p.URL())
			p.Stall(direction)
			answered := make(chan error, 1)
			go func() { answered <- conn.Ping(context.WithoutCancel(t.Context())) }()
			// Another connection cannot even be opened meanwhile.
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err := pgx.Connect(ctx, p.URL())
			require.Error(t, err)
			require.Empty(t, answered)
			p.Heal()
			require.NoError(t, <-answered)
		})
	}
}

func TestAConnectionWhoseBytesWereSwallowedStaysDeafAndANewOneWorks(t *testing.T) {
	t.Parallel()
	p := dbtest.NewProxy(t, dbtest.NewEmpty(t))
	conn := dbtest.Connect(t, p.URL())
	swallowed := p.At(dbtest.ToClient, "swallow this", 1, func() { p.Swallow(dbtest.ToClient) })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := conn.Exec(ctx, "SELECT 'swallow' || ' this'")
	require.Error(t, err)
	<-swallowed
	p.Heal()
	require.NoError(t, dbtest.Connect(t, p.URL()).Ping(t.Context()))
}

func TestAResetEndsBothEndsAndAStallHidesItFromOne(t *testing.T) {
	t.Parallel()
	url := dbtest.NewEmpty(t)
	p := dbtest.NewProxy(t, url)
	observer := dbtest.Connect(t, url)
	gone := func(pid uint32) bool {
		var gone bool
		require.NoError(t, observer.QueryRow(t.Context(), "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1::int)", pid).Scan(&gone))
		return gone
	}
	first := dbtest.Connect(t, p.URL())
	p.Reset()
	require.Error(t, first.Ping(t.Context()))
	require.Eventually(t, func() bool { return gone(first.PgConn().PID()) }, 10*time.Second, time.Millisecond)

	second := dbtest.Connect(t, p.URL())
	p.Stall(dbtest.ToServer)
	p.Reset(dbtest.ToClient)
	require.Error(t, second.Ping(t.Context()))
	require.False(t, gone(second.PgConn().PID()), "the server has not learned of it")
	p.Heal()
	require.Eventually(t, func() bool { return gone(second.PgConn().PID()) }, 10*time.Second, time.Millisecond)
}

func TestAProxyFindsATextThatArrivesInPieces(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	p := dbtest.NewProxy(t, "postgres://"+listener.Addr().String()+"/x?sslmode=disable")
	found := p.At(dbtest.ToServer, "COMMIT", 2, func() {})
	config, err := pgx.ParseConfig(p.URL())
	require.NoError(t, err)
	client, err := new(net.Dialer).DialContext(t.Context(), "tcp", fmt.Sprintf("%s:%d", config.Host, config.Port))
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	server, err := listener.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	buffer := make([]byte, 16)
	for _, piece := range []string{"xCOM", "MIT COM", "M", "IT"} {
		select {
		case <-found:
			t.Fatalf("found before %q", piece)
		default:
		}
		_, err = client.Write([]byte(piece))
		require.NoError(t, err)
		_, err = server.Read(buffer) // so that the next piece is one of its own
		require.NoError(t, err)
	}
	<-found
}

func TestAProxyEndsWhileItStalls(t *testing.T) {
	t.Parallel()
	p, err := dbtest.StartProxy(dbtest.NewEmpty(t))
	require.NoError(t, err)
	conn := dbtest.Connect(t, p.URL())
	p.Stall()
	p.Reset()
	p.Close()
	require.Error(t, conn.Ping(t.Context()))
}
