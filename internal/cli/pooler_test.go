package cli

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

func TestAPoolInTransactionModeIsRefusedWithTheRemedy(t *testing.T) {
	w := setup(t)
	w.url = dbtest.PgBouncer(t, w.url, map[string]string{"pool_mode": "transaction"})
	for _, args := range [][]string{{"run"}, {"run", "--until-idle"}, {"enqueue", "increment"}, {"status"}, {"schema", "up"}, {"enable"}} {
		message := w.refused(args...)
		assert.Contains(t, message, "a pooler in transaction or statement mode")
		assert.Contains(t, message, "connect to the server directly, or through a pool in session mode")
	}
	require.Zero(t, one[int](w, `SELECT count(*) FROM bbm.batched_background_migrations`))
}

func TestAPoolInSessionModeServesARunner(t *testing.T) {
	w := setup(t)
	w.url = dbtest.PgBouncer(t, w.url, map[string]string{"pool_mode": "session"})
	w.ok("set", "--fleet", "slots=2")
	w.ok("enqueue", "increment", "--batch-size", "10", "--sub-batch-size", "2", "--parallelism", "2")
	w.ok("run", "--until-idle", "--workers", "2")
	require.Equal(t, "finished", one[string](w, "SELECT status::text FROM bbm.batched_background_migrations"))
	require.Zero(t, one[int](w, `SELECT count(*) FROM app.items WHERE n <> 1`))
	dbtest.CheckHistory(t, w.conn, "increment")
}
