package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// asProgram makes the test binary the program itself, for tests that need a process of their own.
const asProgram = "BBM_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(Run(context.Background(), Program{Args: os.Args[1:]}))
	}
	dbtest.Main(m)
}

// What is waited for in a test comes within moments.
const (
	eventually = time.Minute
	tick       = 5 * time.Millisecond
)

// world is a database with our schema, an enabled fleet, the table app.items, and a folder of works that holds the work "increment".
type world struct {
	t       *testing.T
	url     string
	conn    *pgx.Conn
	works   string
	environ []string
	goWorks []*work.Work
}

// increment is not idempotent: what runs twice, shows.
const increment = `-- description: Count.
-- table: app.items
-- cursor: id

-- +bbm Work
UPDATE app.items AS i SET n = n + 1 WHERE @batch(i);
`

// withArgument takes one.
const withArgument = `-- description: Add.
-- table: app.items
-- cursor: id
-- argument: summand int

-- +bbm Work
UPDATE app.items AS i SET n = n + @summand WHERE @batch(i);
`

// divide fails on every row.
const divide = `-- description: Divide by zero.
-- table: app.items
-- cursor: id

-- +bbm Work
UPDATE app.items AS i SET n = n / (n - n) WHERE @batch(i);
`

func setup(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	w := &world{
		t: t, url: dbtest.New(t), works: t.TempDir(),
		environ: []string{"BBM_ENABLED=true", "BBM_POLL_INTERVAL=20ms", "BBM_LOG_LEVEL=error"},
	}
	w.conn = dbtest.Connect(t, w.url)
	w.exec(`UPDATE bbm.fleet_settings SET execution_enabled = true`)
	w.exec(`CREATE SCHEMA app`)
	w.exec(`CREATE TABLE app.items (id bigint PRIMARY KEY, n integer NOT NULL DEFAULT 0)`)
	w.exec(`INSERT INTO app.items (id) SELECT generate_series(1, 100)`)
	w.file("increment", increment)
	return w
}

func (w *world) exec(sql string) {
	w.t.Helper()
	_, err := w.conn.Exec(w.t.Context(), sql)
	require.NoError(w.t, err)
}

// file writes a work file.
func (w *world) file(name, content string) {
	w.t.Helper()
	require.NoError(w.t, os.WriteFile(filepath.Join(w.works, name+".sql"), []byte(content), 0o600))
}

// result is what one call has left.
type result struct {
	code           int
	stdout, stderr string
}

// run calls the command line with the world's database and works.
func (w *world) run(args ...string) result {
	w.t.Helper()
	return w.program(w.t.Context(), append([]string{"--database-url", w.url, "--works", w.works}, args...)...)
}

// program calls the command line with these arguments alone.
func (w *world) program(ctx context.Context, args ...string) result {
	var stdout, stderr buffer
	code := Run(ctx, Program{Args: args, Environ: w.environ, Works: w.goWorks, Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr})
	return result{code, stdout.String(), stderr.String()}
}

// ok calls the command line, which has to succeed, and returns what it printed.
func (w *world) ok(args ...string) string {
	w.t.Helper()
	r := w.run(args...)
	require.Equal(w.t, exitDone, r.code, "%v: %s", args, r.stderr)
	return r.stdout
}

// refused calls the command line, which has to refuse its input with one line and change nothing; it returns the line.
func (w *world) refused(args ...string) string {
	w.t.Helper()
	before := w.dump()
	r := w.run(args...)
	w.requireRefusal(r)
	require.Equal(w.t, before, w.dump(), "%v changed something", args)
	return r.stderr
}

func (w *world) requireRefusal(r result) {
	w.t.Helper()
	require.Equal(w.t, exitInput, r.code, r.stderr)
	require.Empty(w.t, r.stdout)
	require.Equal(w.t, 1, strings.Count(r.stderr, "\n"), "not one line: %s", r.stderr)
	require.True(w.t, strings.HasSuffix(r.stderr, "\n"), r.stderr)
}

// dump is the content of every table of ours and of the application.
func (w *world) dump() string {
	w.t.Helper()
	rows, err := w.conn.Query(w.t.Context(), `
		SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('bbm', 'app') ORDER BY 1`)
	require.NoError(w.t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(w.t, err)
	var all strings.Builder
	for _, table := range tables {
		var content string
		err := w.conn.QueryRow(w.t.Context(), fmt.Sprintf(`SELECT coalesce(string_agg(t::text, E'\n' ORDER BY t::text), '') FROM %s AS t`, table)).Scan(&content)
		require.NoError(w.t, err)
		fmt.Fprintf(&all, "%s\n%s\n", table, content)
	}
	return all.String()
}

// one reads a single value.
func one[T any](w *world, sql string) (value T) {
	w.t.Helper()
	require.NoError(w.t, w.conn.QueryRow(w.t.Context(), sql).Scan(&value))
	return value
}

// buffer is written by a command while a test reads it.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
