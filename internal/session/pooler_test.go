package session_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/session"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// check opens a session as a command does, and asks what it is.
func check(t *testing.T, url string) error {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	conn, err := session.Connect(t.Context(), config, session.Config{StatementTimeout: time.Minute, CheckPooling: true})
	if err == nil {
		require.NoError(t, conn.Close(context.WithoutCancel(t.Context())))
	}
	return err
}

func TestAPoolerThatGivesServerConnectionsToTransactionsIsFoundOut(t *testing.T) {
	t.Parallel()
	url := dbtest.NewEmpty(t)
	for name, settings := range map[string]map[string]string{
		"statement mode":                 {"pool_mode": "statement"},
		"transaction mode":               {"pool_mode": "transaction"},
		"one server connection":          {"pool_mode": "transaction", "default_pool_size": "1"},
		"two server connections in turn": {"pool_mode": "transaction", "default_pool_size": "2", "server_round_robin": "1"},
		"server connections in turn":     {"pool_mode": "transaction", "server_round_robin": "1", "min_pool_size": "5"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pooled := dbtest.PgBouncer(t, url, settings)
			for range 5 { // others' use of the pool differs from one time to the next
				require.ErrorIs(t, check(t, pooled), session.ErrPooled)
			}
		})
	}
}

func TestABusyPoolInTransactionModeIsFoundOutEachTime(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]map[string]string{
		"last used first": {"pool_mode": "transaction"},
		"in turn":         {"pool_mode": "transaction", "server_round_robin": "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pooled := dbtest.PgBouncer(t, dbtest.NewEmpty(t), settings)
			ctx, cancel := context.WithCancel(t.Context())
			var others sync.WaitGroup
			defer others.Wait()
			defer cancel()
			for range 4 {
				others.Go(func() {
					for ctx.Err() == nil {
						conn, err := pgx.Connect(ctx, pooled)
						for err == nil { // until the test ends
							_, err = conn.PgConn().Exec(ctx, "BEGIN; SELECT 1; COMMIT").ReadAll()
						}
					}
				})
			}
			for range 30 {
				require.ErrorIs(t, check(t, pooled), session.ErrPooled)
			}
		})
	}
}

func TestASessionOfItsOwnPasses(t *testing.T) {
	t.Parallel()
	url := dbtest.NewEmpty(t)
	require.NoError(t, check(t, url), "the server itself")
	require.NoError(t, check(t, dbtest.NewProxy(t, url).URL()), "a proxy that pools nothing")
	require.NoError(t, check(t, dbtest.PgBouncer(t, url, map[string]string{"pool_mode": "session"})))
	require.NoError(t, check(t, dbtest.PgBouncer(t, url, map[string]string{"pool_mode": "session", "default_pool_size": "2"})))
	require.ErrorIs(t, check(t, dbtest.PgBouncer(t, url, map[string]string{"pool_mode": "session", "default_pool_size": "1"})), session.ErrPoolExhausted)
}
