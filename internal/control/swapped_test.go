package control

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/work"
)

const swap = `ALTER TABLE public.users RENAME TO users_before; CREATE TABLE public.users (LIKE public.users_before INCLUDING ALL)`

func TestVerifyFindsOutThatTheTableIsAnotherOneInTheMiddle(t *testing.T) {
	t.Parallel()
	f := withProof(t, 5500)
	f.enqueue(EnqueueOptions{Work: "plain"})
	swapper := f.another()
	_, err := f.Verify(t.Context(), "plain", func(v Verified) {
		if v.Rows == 1000 {
			_, err := swapper.Conn.Exec(t.Context(), swap)
			assert.NoError(t, err)
		}
	})
	var definition *work.DefinitionError
	require.ErrorAs(t, err, &definition)
	assert.Contains(t, definition.Message, "public.users was renamed, dropped or made again while it was looked at")
}

func TestATableThatIsSwappedDuringAnEnqueueIsNotEnqueued(t *testing.T) {
	t.Parallel()
	f := setup(t, 1000)
	enqueuer := f.another()
	f.exec(`BEGIN`)
	f.exec(`LOCK TABLE public.users IN ACCESS EXCLUSIVE MODE`)
	done := make(chan error, 1)
	go func() {
		_, err := enqueuer.Enqueue(t.Context(), EnqueueOptions{Work: "plain"})
		done <- err
	}()
	require.Eventually(t, func() bool {
		var isWaiting bool
		err := f.Conn.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'public.users'::regclass AND NOT granted)`).Scan(&isWaiting)
		return err == nil && isWaiting
	}, 30*time.Second, 5*time.Millisecond)
	f.exec(swap)
	f.exec(`COMMIT`)
	var definition *work.DefinitionError
	require.ErrorAs(t, <-done, &definition)
	assert.Contains(t, definition.Message, "public.users was renamed, dropped or made again while it was looked at")
	names, err := f.Names(t.Context())
	require.NoError(t, err)
	assert.Empty(t, names)
}
