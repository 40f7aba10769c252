package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/config"
	"github.com/bbm-runner/bbm-runner/internal/control"
)

func TestColumnsAreWidenedPageByPage(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := newColumns(&out, []string{"ID", "NAME"})
	c.print([][]string{{"1", "a"}})
	c.print([][]string{{"1000", "ü"}, {"2", ""}})
	c.print(nil)
	assert.Equal(t, "ID  NAME\n1   a\n1000  ü\n2\n", out.String())
}

func TestTheLastColumnIsClippedToTheTerminal(t *testing.T) {
	t.Parallel()
	rows := [][]string{{"12345", "a text of thirty-two characters."}}
	assert.Equal(t, rows, fitted([]string{"A", "B"}, rows, 0))
	assert.Equal(t, rows, fitted([]string{"A", "B"}, rows, 44))
	assert.Equal(t, [][]string{{"12345", "a text of thirty-two character…"}}, fitted([]string{"A", "B"}, rows, 43))
	assert.Equal(t, [][]string{{"12345", "a text of thirty-tw…"}}, fitted([]string{"A", "B"}, rows, 10))
}

func TestAJSONArrayIsOneElementALine(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, printJSON(&out, []int{1, 2}))
	require.NoError(t, printJSON(&out, []int(nil)))
	assert.Equal(t, "[\n  1,\n  2\n]\n[]\n", out.String())
}

func TestAnErrorIsOneLineThatSaysThingsOnce(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "a; b", oneLine(errors.New("a\n\tb\na\n")))
}

func TestBarsShowEachMigrationToTheEnd(t *testing.T) {
	t.Parallel()
	var out buffer
	b := newBars(&out, false)
	rate, why := 3400.0, "waiting for a slot: all in use (1)"
	b.show([]control.Migration{
		{Name: "first", Status: "running", Progress: 0.452, ProcessedRows: 452_000, TotalRows: 1_000_000, RowsPerSecond: &rate},
		{Name: "second", Status: "active", TotalRows: 10, WaitingFor: &why},
	})
	b.close()
	assert.Contains(t, out.String(), " 45.2 % ")
	assert.Contains(t, out.String(), "first running  452,000 of ~1,000,000 rows  3,400/s\n")
	assert.Contains(t, out.String(), "second active  waiting for a slot: all in use (1)\n")
	assert.NotContains(t, out.String(), "\x1b[1m", "no colours were asked for")
}

func TestALineOfABarFitsAndKeepsTheRateAndTheTimeLeft(t *testing.T) {
	t.Parallel()
	rate, left := 34_000.0, int64(81)
	m := control.Migration{
		Name: "users_email_lower", Status: "running", Progress: 0.452, ProcessedRows: 452_000, TotalRows: 1_000_000, RowsPerSecond: &rate, ETASeconds: &left,
	}
	const at80 = 80 - percentWidth - leastBar - 1
	for room, want := range map[int]string{
		0:    "users_email_lower running  452,000 of ~1,000,000 rows  34,000/s  1m21s left",
		at80: "users_email_lower running  452,000 rows  34,000/s  1m21s left",
		50:   "users_email_lower running  34,000/s  1m21s left",
	} {
		assert.Equal(t, want, (&bars{room: room}).message(m))
		assert.True(t, room == 0 || len(want) <= room)
	}
	m.Name = strings.Repeat("n", 100)
	assert.LessOrEqual(t, columnsOf((&bars{room: at80}).message(m)), at80)
	why := strings.Repeat("because ", 20)
	m.Name, m.WaitingFor = "short", &why
	said := (&bars{room: at80}).message(m)
	assert.LessOrEqual(t, columnsOf(said), at80)
	assert.True(t, strings.HasSuffix(said, "…"), said)
}

func TestAPipeGetsALineForEachChangeThatIsOne(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	view := (&app{Program: Program{Stdout: &out}}).newView(false)
	at := func(status string, progress float64, why string) {
		m := control.Migration{Name: "m", Status: status, Progress: progress}
		if why != "" {
			m.WaitingFor = &why
		}
		view.show([]control.Migration{m})
	}
	at("active", 0, "no runner is connected")
	at("active", 0, "no runner is connected")
	for percent := range 100 {
		at("running", float64(percent)/100, "")
	}
	at("running", 0.99, "waiting until 2026-01-02T03:04:05Z for its interval of 10s")
	at("running", 0.99, "waiting until 2026-01-02T03:04:15Z for its interval of 10s")
	for walked := range 100 {
		view.show([]control.Migration{{Name: "m", Status: "running", Progress: 0.999, Verification: &control.Verification{Pass: 1, Progress: float64(walked) / 100}}})
	}
	at("finished", 1, "")
	assert.Equal(t, 1+10+1+10+1, strings.Count(out.String(), "\n"), out.String())
}

func TestAPipeIsNoTerminal(t *testing.T) {
	t.Parallel()
	a := &app{Program: Program{Environ: []string{"TERM=xterm"}}}
	assert.False(t, isTerminal(&bytes.Buffer{}))
	assert.False(t, a.isLive(&bytes.Buffer{}))
	assert.Zero(t, width(&bytes.Buffer{}))
}

func TestACriticalFailureIsReportedToSentryWithoutRowContents(t *testing.T) {
	t.Parallel()
	received := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		received <- string(body)
	}))
	defer server.Close()
	a := newTestApp()
	a.config = &config.Config{SentryDSN: strings.Replace(server.URL, "http://", "http://key@", 1) + "/1", SentryEnvironment: "staging"}
	report, flush, err := a.reporter()
	require.NoError(t, err)
	report(context.Background(), &pgconn.PgError{Severity: "ERROR", Code: "23514", Message: "violates a check", Detail: "Failing row contains (secret)."},
		map[string]string{"migration": "increment"})
	flush()
	body := <-received
	assert.Contains(t, body, "violates a check")
	assert.Contains(t, body, `"migration":"increment"`)
	assert.Contains(t, body, `"environment":"staging"`)
	assert.NotContains(t, body, "secret")
}

func TestNothingIsReportedWithoutADSN(t *testing.T) {
	t.Parallel()
	a := newTestApp()
	a.config = &config.Config{}
	report, flush, err := a.reporter()
	require.NoError(t, err)
	assert.Nil(t, report)
	flush()
}

func TestAWrongDSNIsRefusedWithoutItsKey(t *testing.T) {
	w := setup(t)
	w.environ = append(w.environ, "BBM_SENTRY_DSN=https://hunter2")
	line := w.refused("run")
	assert.Contains(t, line, "BBM_SENTRY_DSN")
	assert.NotContains(t, line, "hunter2")
}

func TestNamesAreCompleted(t *testing.T) {
	w := setup(t)
	w.ok("enqueue", "increment", "--name", "nightly")
	assert.True(t, strings.HasPrefix(w.ok("__complete", "enqueue", ""), "increment\tCount.\n"))
	assert.True(t, strings.HasPrefix(w.ok("__complete", "pause", ""), "nightly\n"))
	assert.True(t, strings.HasPrefix(w.ok("__complete", "retry", ""), ":"), "it has not failed")
	assert.Contains(t, w.ok("completion", "bash"), "bbm-runner")
	w.url = "postgres://127.0.0.1:1/none"
	assert.True(t, strings.HasPrefix(w.ok("__complete", "pause", ""), ":"))
}
