package runner_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/schema"
)

func TestARunnerExecutesNothingMoreOnceTheSchemaIsNewerAndGoesOnWhenItServesItAgain(t *testing.T) {
	w := setup(t, 100)
	w.enqueue("count", "public.items", 10, 5)
	w.exec(`UPDATE bbm.batched_background_migrations SET job_interval = '1 hour'`)
	stop := w.start(w.runner(w.daemon(), parse(t, "count", increment)))
	w.eventually(`SELECT succeeded_jobs = 1 FROM bbm.batched_background_migrations`)
	w.exec(`INSERT INTO bbm.goose_db_version (version_id, is_applied) VALUES (99999, true)`)
	require.Eventually(t, func() bool { return w.logged("newer than the") }, 30*time.Second, time.Millisecond)
	require.False(t, w.logged("connection lost"), "it was not lost")
	w.exec(`UPDATE bbm.batched_background_migrations SET job_interval = '0'`)
	// It holds nothing that others would wait for, and says so each time that it looks.
	w.eventually(`SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory' AND classid IN (1650617601, 1650617603, 1650617604)
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
	require.Equal(t, 10, one[int](w, `SELECT sum(n)::int FROM public.items`))
	require.ErrorIs(t, w.runUntilIdle(parse(t, "count", increment)), schema.ErrVersion, "a run until idle does not wait for another version")

	w.exec(`DELETE FROM bbm.goose_db_version WHERE version_id = 99999`)
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	w.eachOnce("count")
}
