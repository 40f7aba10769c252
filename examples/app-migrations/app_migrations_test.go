// Package appmigrations holds the files of an example application; this test keeps them true.
package appmigrations

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/runner"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// application is a database of the application, with bbm-runner's schema in it.
type application struct {
	t      *testing.T
	config *pgx.ConnConfig
	conn   *pgx.Conn
	goose  *goose.Provider
}

func setup(t *testing.T) *application {
	t.Helper()
	t.Parallel()
	url := dbtest.New(t)
	config, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	db := stdlib.OpenDB(*config)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	provider, err := goose.NewProvider(goose.DialectPostgres, db, os.DirFS("migrations"), goose.WithDisableGlobalRegistry(true))
	require.NoError(t, err)
	return &application{t: t, config: config, conn: dbtest.Connect(t, url), goose: provider}
}

func (a *application) exec(sql string) {
	a.t.Helper()
	_, err := a.conn.Exec(a.t.Context(), sql)
	require.NoError(a.t, err)
}

// version is what the application's goose has come to.
func (a *application) version() int64 {
	a.t.Helper()
	version, err := a.goose.GetDBVersion(a.t.Context())
	require.NoError(a.t, err)
	return version
}

// run is a runner with the folder of works, until nothing is left to do.
func (a *application) run() {
	a.t.Helper()
	works, err := work.LoadDir("works")
	require.NoError(a.t, err)
	registry, err := work.NewRegistry(works...)
	require.NoError(a.t, err)
	r, err := runner.New(a.config, registry, runner.Config{
		Enabled: true, UntilIdle: true, PollInterval: 10 * time.Millisecond, Version: "test", Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(a.t, err)
	ctx, cancel := context.WithTimeout(a.t.Context(), time.Minute)
	defer cancel()
	require.NoError(a.t, r.Run(ctx))
	require.NoError(a.t, ctx.Err(), "the runner did not become idle")
}

func TestTheGateOpensWhenTheBackfillIsFinished(t *testing.T) {
	a := setup(t)
	a.exec(`UPDATE bbm.fleet_settings SET execution_enabled = true`)
	_, err := a.goose.UpTo(t.Context(), 1)
	require.NoError(t, err)
	a.exec(`INSERT INTO app.users (email) SELECT 'User' || g || '@Example.ORG' FROM generate_series(1, 3000) AS g`)

	_, err = a.goose.Up(t.Context())
	var refusal *pgconn.PgError
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, `the batched background migration "users_email_lower" is active, not finished`, refusal.Message)
	require.EqualValues(t, 2, a.version(), "what comes before the gate is applied")

	a.exec(`INSERT INTO app.users (email) VALUES ('NEW@example.org')`)
	a.run()
	_, err = a.goose.Up(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 3, a.version())

	var users, filled int
	require.NoError(t, a.conn.QueryRow(t.Context(),
		`SELECT count(*), count(*) FILTER (WHERE email_lower = lower(email)) FROM app.users`).Scan(&users, &filled))
	require.Equal(t, 3001, users)
	require.Equal(t, users, filled)
	dbtest.CheckHistory(t, a.conn, "users_email_lower")
}

func TestAFreshDatabasePassesWithoutARunner(t *testing.T) {
	a := setup(t)
	_, err := a.goose.Up(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 3, a.version())
	dbtest.CheckHistory(t, a.conn, "users_email_lower")
}
