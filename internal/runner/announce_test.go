package runner_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

func TestARunnerIsCountedOnlyWhenItsWorksAreKnown(t *testing.T) {
	w := setup(t, 10)
	w.enqueue("count", "public.items", 10, 10)
	const counted = `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 1650617604 AND objid = 1
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`
	other := dbtest.Connect(t, w.url)
	tx, err := other.Begin(w.ctx)
	require.NoError(t, err)
	_, err = tx.Exec(w.ctx, `LOCK TABLE bbm.batched_background_migrations`)
	require.NoError(t, err)
	stop := w.start(w.runner(w.daemon(), parse(t, "count", increment)))
	w.eventually(`SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'bbm.batched_background_migrations'::regclass)`)
	require.False(t, one[bool](w, counted), "status would say that no runner has the work")
	require.NoError(t, tx.Rollback(w.ctx))
	w.eventually(counted)
	require.NoError(t, stop())
}
