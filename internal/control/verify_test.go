package control

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/work"
)

// withProof gives the fixture the work "plain" with a predicate of what remains.
func withProof(t *testing.T, rows int) *fixture {
	t.Helper()
	f := setup(t, rows)
	f.Works = registry(t, map[string]string{"plain": strings.Replace(usersFile, "-- cursor: id", "-- cursor: id\n-- remaining: n = 0", 1)})
	return f
}

func TestVerifyWalksPieceByPieceAndTellsHowFarItIs(t *testing.T) {
	t.Parallel()
	f := withProof(t, 5500)
	f.enqueue(EnqueueOptions{Work: "plain"})
	f.exec(`UPDATE public.users SET n = 1 WHERE id NOT IN (3, 999, 1000, 1001, 5499, 5500)`)
	var seen []int64
	v, err := f.Verify(t.Context(), "plain", func(v Verified) { seen = append(seen, v.Rows) })
	require.NoError(t, err)
	assert.Equal(t, []int64{5500, 6}, []int64{v.Rows, v.RemainingRows})
	assert.Equal(t, []work.Key{{"3"}, {"999"}, {"1000"}, {"1001"}, {"5499"}}, v.RemainingKeys)
	assert.Greater(t, len(seen), 1)
	assert.Equal(t, int64(1000), seen[0])
	assert.Equal(t, int64(5500), seen[len(seen)-1])
}

func TestVerifyTakesSmallerPiecesWhereTimeRunsOut(t *testing.T) {
	t.Parallel()
	f := withProof(t, 1200)
	f.enqueue(EnqueueOptions{Work: "plain"})
	f.Works = registry(t, map[string]string{
		"plain": strings.Replace(usersFile, "-- cursor: id", "-- cursor: id\n-- remaining: n = 0 AND pg_sleep(0.001) IS NOT NULL", 1),
	})
	f.exec(`SET statement_timeout = '600ms'`)
	v, err := f.Verify(t.Context(), "plain", nil)
	require.NoError(t, err)
	assert.Equal(t, []int64{1200, 1200}, []int64{v.Rows, v.RemainingRows})
	assert.NotEmpty(t, v.OtherVersion)
}

func TestStatusTellsHowFarAProofIs(t *testing.T) {
	t.Parallel()
	f := withProof(t, 100)
	f.enqueue(EnqueueOptions{Work: "plain"})
	f.exec(`UPDATE bbm.batched_background_migrations SET status = 'running', max_key = '{100}', frontier_key = '{100}'`)
	f.exec(`INSERT INTO bbm.batched_background_migration_verifications (batched_background_migration_id, pass, passes_left, work_checksum, awaited_transactions)
		SELECT id, 1, 3, work_checksum, '{}' FROM bbm.batched_background_migrations`)
	status := func() Migration {
		found, err := f.Status(t.Context(), "plain")
		require.NoError(t, err)
		return found[0]
	}
	assert.Equal(t, &Verification{1, 0, 0, 0}, status().Verification)

	other := f.another()
	tx, err := other.Conn.Begin(t.Context())
	require.NoError(t, err)
	f.exec(`UPDATE bbm.batched_background_migration_verifications SET awaited_transactions = ARRAY[
		(SELECT virtualtransaction FROM pg_locks WHERE locktype = 'virtualxid' AND pid = $1)]`, int32(other.Conn.PgConn().PID()))
	f.exec(`UPDATE bbm.fleet_settings SET execution_enabled = true`)
	f.exec(`SELECT pg_advisory_lock_shared(1650617604, 1), pg_advisory_lock_shared(1650617603, bbm.work_lock_key(work_name, work_checksum))
		FROM bbm.batched_background_migrations`)
	assert.Contains(t, *status().WaitingFor, "waiting for older transactions to end: process ")
	require.NoError(t, tx.Rollback(t.Context()))

	f.exec(`SELECT pg_advisory_lock(1650617601, 1)`)
	f.exec(`UPDATE bbm.batched_background_migrations SET updated_at = now() - interval '1 hour'`)
	f.exec(`UPDATE bbm.batched_background_migration_verifications SET statement = 'SELECT', until_key = '{100}', progress_key = '{35}', expected_rows = 100,
		walked_rows = 35, remaining_rows = 2, updated_at = now()`)
	found := status()
	assert.Equal(t, &Verification{1, 0.35, 35, 2}, found.Verification)
	assert.Nil(t, found.WaitingFor, "its own walk holds the slot")
	assert.Nil(t, found.RowsPerSecond)
	f.exec(`UPDATE bbm.batched_background_migration_verifications SET updated_at = now() - interval '1 hour'`)
	assert.Equal(t, "waiting for a slot: all in use (1)", *status().WaitingFor)
	f.exec(`UPDATE bbm.batched_background_migration_verifications SET finished_at = now()`)
	assert.Nil(t, status().Verification)
}

func TestAPieceGrowsWhileItIsQuickAndGivesWayWhenItIsSlow(t *testing.T) {
	t.Parallel()
	size := work.NewPieceSize(50_000)
	for range 10 {
		size.Observe(int64(size.Rows()), time.Millisecond)
	}
	assert.Equal(t, 50_000, size.Rows())
	size.Observe(10, time.Millisecond)
	size.Observe(50_000, 300*time.Millisecond)
	assert.Equal(t, 50_000, size.Rows())
	size.Observe(50_000, time.Second)
	assert.Equal(t, 10_000, size.Rows())
	for size.Lose() {
		assert.Positive(t, size.Rows())
	}
	assert.Equal(t, 1, size.Rows())
	assert.Equal(t, 7, work.NewPieceSize(7).Rows())
}
