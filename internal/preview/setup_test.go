package preview_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/preview"
	"github.com/bbm-runner/bbm-runner/internal/session"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// world is a database without our tables, which a preview does not need.
type world struct {
	t    *testing.T
	url  string
	conn *pgx.Conn // as a run has it
}

// items is a table of 5,000 rows, each with a bit of everything that an update may touch.
const items = `
	CREATE TABLE public.items (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0, m int NOT NULL DEFAULT 0, note text NOT NULL DEFAULT '');
	INSERT INTO public.items (id) SELECT generate_series(1, 5000);
	ANALYZE public.items`

func setup(t *testing.T, statements ...string) *world {
	t.Helper()
	t.Parallel()
	w := &world{t: t, url: dbtest.NewEmpty(t)}
	w.conn = w.connect(session.Config{})
	for _, sql := range statements {
		w.exec(sql)
	}
	return w
}

func (w *world) connect(config session.Config) *pgx.Conn {
	w.t.Helper()
	connConfig, err := pgx.ParseConfig(w.url)
	require.NoError(w.t, err)
	conn, err := session.Connect(w.t.Context(), connConfig, config)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close(w.t.Context()) })
	return conn
}

func (w *world) exec(sql string) {
	w.t.Helper()
	_, err := w.conn.Exec(w.t.Context(), sql)
	require.NoError(w.t, err, sql)
}

// one reads a single value.
func one[T any](w *world, sql string) (value T) {
	w.t.Helper()
	require.NoError(w.t, w.conn.QueryRow(w.t.Context(), sql).Scan(&value), sql)
	return value
}

// version is the server's: 15 for 15.4.
func (w *world) version() int {
	return one[int](w, `SELECT current_setting('server_version_num')::int / 10000`)
}

// onItems is a work file for public.items.
func onItems(t *testing.T, statement string) *work.Work {
	t.Helper()
	return parse(t, "public.items", "id", statement)
}

func parse(t *testing.T, table, cursor, statement string) *work.Work {
	t.Helper()
	w, err := work.Parse("w", fmt.Appendf(nil, "-- description: for a test\n-- table: %s\n-- cursor: %s\n-- search_path: public\n\n-- +bbm Work\n%s", table, cursor, statement))
	require.NoError(t, err)
	return w
}

func (w *world) explain(of *work.Work) *preview.Explanation {
	w.t.Helper()
	e, err := preview.Explain(w.t.Context(), w.conn, preview.Subject{Work: of})
	require.NoError(w.t, err)
	return e
}

// codes are those of warnings, but for that of a superuser, which the tests' role mostly is.
func codes(warnings []preview.Warning) []string {
	found := []string{}
	for _, each := range warnings {
		if each.Code != "superuser" {
			found = append(found, each.Code)
		}
	}
	return found
}

// message is that of the first warning of a code.
func message(t *testing.T, warnings []preview.Warning, code string) string {
	t.Helper()
	for _, each := range warnings {
		if each.Code == code {
			return each.Message
		}
	}
	require.Fail(t, "no such warning", "%s in %v", code, warnings)
	return ""
}

// dump is the content of a table with its row versions.
func (w *world) dump(table string) string {
	w.t.Helper()
	return one[string](w, fmt.Sprintf(`SELECT coalesce(string_agg(concat_ws(' ', tableoid::regclass, ctid, xmin, t::text), E'\n' ORDER BY tableoid, ctid), '') FROM %s AS t`, table))
}
