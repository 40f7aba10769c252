package preview_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/preview"
	"github.com/bbm-runner/bbm-runner/internal/session"
)

func TestABlockedSampleGivesUpAndNamesWhoHoldsTheLock(t *testing.T) {
	for name, c := range map[string]struct{ lock, waitsFor, holds string }{
		"a row":      {"UPDATE public.items SET n = 1 WHERE id = 3", "ShareLock on transaction ", "RowExclusiveLock on public.items"},
		"the table":  {"LOCK TABLE public.items IN SHARE MODE", "RowExclusiveLock on public.items", "ShareLock on public.items"},
		"everything": {"LOCK TABLE public.items IN ACCESS EXCLUSIVE MODE", "AccessShareLock on public.items", "AccessExclusiveLock on public.items"},
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t, items)
			others := w.connect(session.Config{})
			_, err := others.Exec(t.Context(), "SET application_name = 'psql of Alice'; BEGIN; "+c.lock)
			require.NoError(t, err)
			const timeout = 500 * time.Millisecond
			conn := w.connect(session.Config{LockTimeout: timeout})
			o := everywhere
			o.LockTimeout, o.Watcher = timeout, w.connect(session.Config{})
			_, err = preview.Sample(t.Context(), conn, preview.Subject{Work: onItems(t, incrementAll)}, o)
			var blocked *preview.BlockedError
			require.ErrorAs(t, err, &blocked)
			require.Len(t, blocked.Blockers, 1)
			assert.EqualValues(t, others.PgConn().PID(), blocked.Blockers[0].PID)
			assert.Contains(t, err.Error(), fmt.Sprintf("process %d (user ", others.PgConn().PID()))
			assert.Contains(t, err.Error(), `application "psql of Alice", idle in transaction`)
			assert.Contains(t, err.Error(), c.waitsFor)
			assert.Contains(t, err.Error(), c.holds)
			assert.Equal(t, byte('I'), conn.PgConn().TxStatus())

			_, err = others.Exec(t.Context(), "ROLLBACK")
			require.NoError(t, err)
			_, err = preview.Sample(t.Context(), conn, preview.Subject{Work: onItems(t, incrementAll)}, o)
			require.NoError(t, err, "the connection goes on to serve")
		})
	}
}

func TestABlockedSampleWithoutAWatcherSaysSo(t *testing.T) {
	w := setup(t, items)
	others := w.connect(session.Config{})
	_, err := others.Exec(t.Context(), "BEGIN; UPDATE public.items SET n = 1 WHERE id = 3")
	require.NoError(t, err)
	_, err = preview.Sample(t.Context(), w.connect(session.Config{LockTimeout: 50 * time.Millisecond}), preview.Subject{Work: onItems(t, incrementAll)}, everywhere)
	require.ErrorContains(t, err, "it waited for a lock, and whoever holds it was not seen")
}
