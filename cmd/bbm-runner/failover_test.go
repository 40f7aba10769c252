package main

import (
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/localpg"
)

func TestAFailoverToAStandbyLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	primary, err := localpg.Start(t.Context(), localpg.Options{BinDir: os.Getenv(dbtest.BinVariable)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, primary.Stop()) })
	standby, err := primary.Standby(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, standby.Stop()) })
	both, err := url.Parse(primary.URL("postgres"))
	require.NoError(t, err)
	follower, err := url.Parse(standby.URL("postgres"))
	require.NoError(t, err)
	both.Host = follower.Host + "," + both.Host
	both.RawQuery += "&target_session_attrs=read-write"

	f := newFleet(t, both.String(), 10_000, 1, "--batch-size", "500", "--sub-batch-size", "10", "--pause", "1ms")
	f.conn = dbtest.Connect(t, standby.URL("postgres"))
	const begun = `SELECT succeeded_jobs > 1 FROM bbm.batched_background_migrations`
	require.Eventually(t, func() bool {
		return one[bool](f, `SELECT to_regclass('bbm.batched_background_migrations') IS NOT NULL`)
	}, time.Minute, time.Millisecond)

	runner := f.start("--until-idle")
	f.eventually(begun)
	// One that knows the standby alone waits for it to be promoted.
	f.url = standby.URL("postgres")
	patient := f.start("--until-idle")
	require.Eventually(t, func() bool { return strings.Contains(patient.log.String(), "the server is read-only (a standby)") }, time.Minute, time.Millisecond)
	primary.Crash()
	f.exec(`SELECT pg_promote()`)
	require.Less(t, one[int](f, `SELECT succeeded_jobs::int FROM bbm.batched_background_migrations`), 20, "it is in mid-run")
	require.NoError(t, runner.wait())
	require.NoError(t, patient.wait())
	require.Contains(t, runner.log.String(), "reconnecting")
	f.eachOnce()
}
