package main

import (
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/localpg"
)

// endsWith proves a process's exit code and what it said.
func (p *process) endsWith(t *testing.T, code int, said string) {
	t.Helper()
	var exit *exec.ExitError
	err := p.wait()
	if code == 0 {
		require.NoError(t, err, p.log)
	} else {
		require.ErrorAs(t, err, &exit, "%v: %s", err, p.log)
		require.Equal(t, code, exit.ExitCode(), p.log)
	}
	require.Contains(t, p.log.String(), said)
}

func TestARunnerThatStartsBeforeItsDatabaseWaitsForIt(t *testing.T) {
	t.Parallel()
	server, err := localpg.Start(t.Context(), localpg.Options{BinDir: os.Getenv(dbtest.BinVariable)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	f := newFleet(t, server.URL("postgres"), 100, 1)
	other := func(change func(*url.URL)) *fleet {
		u, err := url.Parse(f.url)
		require.NoError(t, err)
		change(u)
		changed := *f
		changed.url = u.String()
		return &changed
	}
	const waits = "waiting for the database"

	// What no wait mends is an error at once, of a daemon too.
	other(func(u *url.URL) { u.User = url.UserPassword("postgres", "wrong") }).start().endsWith(t, 2, "password authentication failed")
	other(func(u *url.URL) { u.Path = "/nowhere" }).start().endsWith(t, 2, `database "nowhere" does not exist`)
	other(func(u *url.URL) { u.RawQuery = "sslmode=require" }).start().endsWith(t, 2, "the server has no TLS")

	server.Crash()
	f.start("--wait-for-database", "0").endsWith(t, 1, "cannot connect to ")
	f.start("--until-idle", "--wait-for-database", "100ms").endsWith(t, 1, "cannot connect to ")
	noName := other(func(u *url.URL) { u.Host = "no-such-host.invalid:5432" }).start()
	daemon, once, stopped := f.start(), f.start("--until-idle"), f.start()
	for _, p := range []*process{daemon, once, stopped, noName} {
		require.Eventually(t, func() bool { return strings.Contains(p.log.String(), waits) }, time.Minute, time.Millisecond, p.log)
	}
	require.NoError(t, stopped.stop(), "a daemon that is stopped while it waits has not failed")
	require.NoError(t, noName.stop())
	require.NoError(t, server.Restart(t.Context()), "after a crash it says for a while that it starts up")
	f.conn = dbtest.Connect(t, f.url)
	f.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, once.wait(), once.log)
	require.Eventually(t, func() bool { return strings.Contains(daemon.log.String(), `"msg":"runner started"`) }, time.Minute, time.Millisecond, daemon.log)
	require.NoError(t, daemon.stop(), daemon.log)
	f.eachOnce()
}

func TestARunnerWhoseFirstConnectionsAreCutOffTriesAgain(t *testing.T) {
	t.Parallel()
	f := newFleet(t, dbtest.New(t), 100, 1)
	proxy := dbtest.NewProxy(t, f.url)
	direct := f.url
	f.url = proxy.URL()
	cut := 0
	// The look at the schema is answered by a cut, as by a server that is shut down just then.
	var again func()
	again = func() {
		proxy.Reset()
		if cut++; cut < 5 {
			proxy.At(dbtest.ToServer, "SchemaVersion", 1, again)
		}
	}
	proxy.At(dbtest.ToServer, "SchemaVersion", 1, again)
	p := f.start("--until-idle")
	require.NoError(t, p.wait(), p.log)
	require.Equal(t, 5, strings.Count(p.log.String(), "waiting for the database"), p.log)
	f.url = direct
	f.eachOnce()
}
