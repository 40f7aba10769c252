package dbtest_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

func hasSchema(t *testing.T, conn *pgx.Conn) (exists bool) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT to_regnamespace('bbm') IS NOT NULL").Scan(&exists))
	return exists
}

func TestEachDatabaseIsItsOwnAndHasTheSchema(t *testing.T) {
	t.Parallel()
	one := dbtest.Connect(t, dbtest.New(t))
	other := dbtest.Connect(t, dbtest.New(t))
	require.True(t, hasSchema(t, one))
	require.True(t, hasSchema(t, other))

	_, err := one.Exec(t.Context(), "CREATE TABLE mine (id int)")
	require.NoError(t, err)
	_, err = other.Exec(t.Context(), "CREATE TABLE mine (id int)")
	require.NoError(t, err)
}

func TestAnEmptyDatabaseLacksTheSchema(t *testing.T) {
	t.Parallel()
	require.False(t, hasSchema(t, dbtest.Connect(t, dbtest.NewEmpty(t))))
}

func TestADatabaseIsDroppedAfterItsTestThoughItIsInUse(t *testing.T) {
	t.Parallel()
	watcher := dbtest.Connect(t, dbtest.NewEmpty(t))
	var url string
	t.Run("a test that leaves a connection open", func(t *testing.T) {
		url = dbtest.New(t)
		conn, err := pgx.Connect(t.Context(), url)
		require.NoError(t, err)
		require.NoError(t, conn.Ping(t.Context()))
	})
	config, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	var exists bool
	require.NoError(t, watcher.QueryRow(t.Context(),
		"SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", config.Database).Scan(&exists))
	require.False(t, exists)
}
