package schema_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

// asUp makes the test binary a process that brings the schema of the database it names up, and nothing else.
const asUp = "BBM_TEST_SCHEMA_UP"

func TestMain(m *testing.M) {
	if target := os.Getenv(asUp); target != "" {
		os.Exit(upAndReport(target))
	}
	dbtest.Main(m)
}

// world is a database with our schema, and a connection to it.
type world struct {
	t    *testing.T
	url  string
	conn *pgx.Conn
}

func setup(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	return connected(t, dbtest.New(t))
}

// setupEmpty is setup without the schema.
func setupEmpty(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	return connected(t, dbtest.NewEmpty(t))
}

func connected(t *testing.T, target string) *world {
	t.Helper()
	return &world{t: t, url: target, conn: dbtest.Connect(t, target)}
}

// another is a second session in the same database.
func (w *world) another() *world {
	w.t.Helper()
	return connected(w.t, w.url)
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	_, err := w.conn.Exec(w.t.Context(), sql, args...)
	require.NoError(w.t, err)
}

// refused executes what the server has to refuse, and returns its error.
func (w *world) refused(sql string, args ...any) *pgconn.PgError {
	w.t.Helper()
	_, err := w.conn.Exec(w.t.Context(), sql, args...)
	var refusal *pgconn.PgError
	require.ErrorAs(w.t, err, &refusal, sql)
	return refusal
}

// one reads a single value.
func one[T any](w *world, sql string, args ...any) T {
	w.t.Helper()
	var value T
	require.NoError(w.t, w.conn.QueryRow(w.t.Context(), sql, args...).Scan(&value))
	return value
}

// list reads a column.
func list[T any](w *world, sql string, args ...any) []T {
	w.t.Helper()
	rows, err := w.conn.Query(w.t.Context(), sql, args...)
	require.NoError(w.t, err)
	values, err := pgx.CollectRows(rows, pgx.RowTo[T])
	require.NoError(w.t, err)
	return values
}

// eventually waits for a condition in the database.
func (w *world) eventually(condition string, args ...any) {
	w.t.Helper()
	require.Eventually(w.t, func() bool { return one[bool](w, condition, args...) }, 30*time.Second, 5*time.Millisecond, condition)
}

// role makes a role that may log in, and returns its name and a function that puts it into a database's URL. Roles belong to the server, so
// that its name is unique; it is dropped after the databases that the test makes later.
func role(t *testing.T) (name string, in func(target string) string) {
	t.Helper()
	w := connected(t, dbtest.NewEmpty(t))
	name = fmt.Sprintf("bbm_test_role_%d_%d", os.Getpid(), time.Now().UnixNano())
	w.exec(fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD 'secret'`, name))
	t.Cleanup(func() {
		_, err := w.conn.Exec(context.Background(), `DROP ROLE `+name)
		assert.NoError(t, err)
	})
	return name, func(target string) string {
		u, err := url.Parse(target)
		require.NoError(t, err)
		u.User = url.UserPassword(name, "secret")
		return u.String()
	}
}
