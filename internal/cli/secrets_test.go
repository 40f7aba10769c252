package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// Canaries: a password, one that is wrong, and what stands in rows.
const (
	password      = "hunter2canary"
	wrongPassword = "wrong2canary"
	rowContent    = "row2canary"
)

// confidant is a world whose role has the password, whose rows hold what nobody should read, and that keeps all that was ever printed or reported.
type confidant struct {
	*world
	role    string
	printed strings.Builder
	reports *buffer
}

func setupSecrets(t *testing.T) *confidant {
	t.Helper()
	c := &confidant{role: fmt.Sprintf("bbm_test_secret_%d_%d", os.Getpid(), time.Now().UnixNano()), reports: &buffer{}}
	keeper := dbtest.Connect(t, dbtest.NewEmpty(t))
	_, err := keeper.Exec(t.Context(), fmt.Sprintf(`CREATE ROLE %s SUPERUSER LOGIN PASSWORD '%s'`, c.role, password))
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := keeper.Exec(context.Background(), `DROP ROLE `+c.role)
		assert.NoError(t, err)
	})
	c.world = setup(t)
	c.exec(fmt.Sprintf(`ALTER TABLE app.items ADD COLUMN secret text NOT NULL DEFAULT '%s', ADD COLUMN plain text`, rowContent))
	c.exec(`CREATE TABLE app.others (secret text PRIMARY KEY); CREATE TABLE app.unique_ones (secret text UNIQUE); CREATE TABLE app.later_ones (secret text UNIQUE DEFERRABLE INITIALLY DEFERRED)`)
	c.exec(`ALTER TABLE app.items ADD CONSTRAINT n_is_small CHECK (n < 10), ADD CONSTRAINT plain_is_other FOREIGN KEY (plain) REFERENCES app.others`)
	sentry := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = c.reports.Write(body)
	}))
	t.Cleanup(sentry.Close)
	c.environ = append(c.environ, "BBM_SENTRY_DSN="+strings.Replace(sentry.URL, "http://", "http://key@", 1)+"/1")
	u, err := url.Parse(c.url)
	require.NoError(t, err)
	u.User = url.UserPassword(c.role, password)
	c.url = u.String()
	return c
}

// keep runs a command by other means, and keeps what it prints.
func (c *confidant) keep(r result) result {
	c.printed.WriteString(r.stdout + r.stderr)
	return r
}

// violations are statements whose failure the server explains by quoting rows, in DETAIL.
var violations = map[string]string{
	"check":    `UPDATE app.items AS i SET n = 10 WHERE @batch(i)`,
	"not_null": `UPDATE app.items AS i SET secret = CASE WHEN i.id = 7 THEN NULL ELSE i.secret END WHERE @batch(i)`,
	"foreign":  `UPDATE app.items AS i SET plain = i.secret WHERE @batch(i)`,
	"unique":   `INSERT INTO app.unique_ones SELECT i.secret FROM app.items AS i WHERE @batch(i)`,
	"deferred": `INSERT INTO app.later_ones SELECT i.secret FROM app.items AS i WHERE @batch(i)`,
}

// insider is a work in Go that fails with what the server said, or panics with it.
func insider(name string, fail func(error) error) *work.Work {
	return &work.Work{Name: name, Version: "1", Table: "app.items", Cursor: []string{"id"}, Do: func(ctx context.Context, tx pgx.Tx, b work.Batch) (int64, error) {
		_, err := b.Exec(ctx, tx, violations["check"])
		return 0, fail(err)
	}}
}

func TestPasswordsAndRowsAreNeverTold(t *testing.T) {
	c := setupSecrets(t)
	program := func(args ...string) result {
		var stdout, stderr buffer
		code := Run(t.Context(), Program{
			Args: append([]string{"--database-url", c.url, "--works", c.works}, args...), Environ: c.environ, Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr,
			Works: []*work.Work{
				insider("wraps", func(err error) error { return fmt.Errorf("wrapped: %w", err) }),
				insider("panics", func(err error) error { panic(err) }),
			},
		})
		return c.keep(result{code, stdout.String(), stderr.String()})
	}
	names := []string{"wraps", "panics"}
	for name, statement := range violations {
		c.file(name, "-- description: d\n-- table: app.items\n-- cursor: id\n\n-- +bbm Work\n"+statement)
		names = append(names, name)
	}
	for i, name := range names {
		require.Equal(t, exitDone, program("enqueue", name, "--max-attempts", "1", "--paused").code)
		if i > 1 {
			program("explain", name)
			sampled := program("sample", name) // it fails, or leaves the row out and says so
			require.Contains(t, sampled.stdout+sampled.stderr, "SQLSTATE", name)
		}
	}
	require.Equal(t, exitDone, program("resume", "--all").code)
	for _, format := range []string{"text", "json"} {
		require.Equal(t, exitFailed, program("--log-level", "debug", "--log-format", format, "run", "--until-idle", "--only", names[0], "--only", names[2], "--only", names[4]).code)
		if format == "text" {
			require.Equal(t, exitDone, program("retry", "--all").code)
		}
	}
	require.Equal(t, exitFailed, program("--log-level", "debug", "run", "--until-idle").code)
	for _, name := range names {
		require.Contains(t, program("status", name).stdout, "  status          failed\n")
		for _, args := range [][]string{{"status", name, "--json"}, {"jobs", name}, {"jobs", name, "--json"}, {"logs", name}, {"logs", name, "--json"}} {
			require.Equal(t, exitDone, program(args...).code)
		}
		dbtest.CheckHistory(t, c.conn, name)
	}
	for _, told := range []string{"violates check constraint", "violates not-null constraint", "violates foreign key constraint", "violates unique constraint", "panicked"} {
		require.Contains(t, c.printed.String(), told, "what must not be told was not tried")
	}
	require.Contains(t, c.reports.String(), "violates check constraint")
	c.requireUntold()
}

func TestNoWayOfGivingAPasswordTellsIt(t *testing.T) {
	c := setupSecrets(t)
	u, err := url.Parse(c.url)
	require.NoError(t, err)
	host, port, database := u.Hostname(), u.Port(), strings.TrimPrefix(u.Path, "/")
	file := func(content string) string {
		path := filepath.Join(t.TempDir(), "bbm.yaml")
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	pairs := fmt.Sprintf("host=%s port=%s dbname=%s user=%s sslmode=disable", host, port, database, c.role)
	settings := []string{"BBM_WORKS_DIR=" + c.works, "BBM_ENABLED=true", "BBM_LOG_LEVEL=debug", "BBM_POLL_INTERVAL=20ms"}
	variables := append(settings, "PGHOST="+host, "PGPORT="+port, "PGDATABASE="+database, "PGUSER="+c.role)
	for name, environ := range map[string][]string{
		"a URL":            append(settings, "BBM_DATABASE_URL="+c.url),
		"pairs":            append(settings, "BBM_DATABASE_URL="+pairs+" password="+password),
		"a variable":       append(variables, "PGPASSWORD="+password),
		"the file":         append(settings, "BBM_CONFIG="+file("database_url: "+c.url+"\n")),
		"a wrong one":      append(variables, "PGPASSWORD="+wrongPassword),
		"a wrong URL":      append(settings, "BBM_DATABASE_URL="+strings.Replace(c.url, password, wrongPassword, 1)),
		"nobody answers":   append(settings, "BBM_DATABASE_URL=postgres://u:"+password+"@127.0.0.1:1/d?connect_timeout=1"),
		"no such host":     append(settings, "BBM_DATABASE_URL=postgres://u:"+password+"@no-such-host.invalid/d?connect_timeout=1"),
		"a malformed URL":  append(settings, "BBM_DATABASE_URL=postgres://u:"+password+"%@h:x/d"),
		"malformed pairs":  append(settings, "BBM_DATABASE_URL=host=h port=x password='"+password),
		"a malformed file": append(settings, "BBM_CONFIG="+file("works_dir: \"x\ndatabase_url: 'postgres://u:"+password+"@h/d'\n")),
		"another setting":  append(settings, "BBM_WORKERS=postgres://u:"+password+"@h/d"),
		"no DSN":           append(settings, "BBM_DATABASE_URL="+c.url, "BBM_SENTRY_DSN=https://"+password),
	} {
		for _, args := range [][]string{{"status"}, {"run", "--until-idle"}} {
			r := c.keep(process(t, environ, args...))
			require.NotContains(t, r.stdout+r.stderr, "goroutine ", name)
			require.Contains(t, []int{exitDone, exitFailed, exitInput}, r.code, "%s: %s", name, r.stderr)
		}
	}
	c.keep(c.run("--database-url", c.url, "--log-level", "loud", "status"))
	c.keep(c.run("--databse-url="+c.url, "status"))
	c.keep(c.run(c.url))
	c.keep(c.run("help", c.url))
	require.Contains(t, c.printed.String(), "cannot connect to 127.0.0.1:1")
	require.Contains(t, c.printed.String(), "its parts are not shown, since it may hold a password")
	c.requireUntold()
}

// requireUntold looks for the canaries in all that was printed, reported and stored in schema bbm.
func (c *confidant) requireUntold() {
	c.t.Helper()
	_, stored, found := strings.Cut(c.dump(), "\nbbm.") // behind the application's own tables
	require.True(c.t, found)
	for where, text := range map[string]string{"printed": c.printed.String(), "reported": c.reports.String(), "stored": stored} {
		for _, canary := range []string{password, wrongPassword, rowContent, "DETAIL:", "Failing row"} {
			if at := strings.Index(text, canary); at >= 0 {
				assert.Fail(c.t, "told", "%s is %s: %s", canary, where, text[max(0, at-300):min(len(text), at+100)])
			}
		}
	}
}
