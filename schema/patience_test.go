package schema_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/schema"
)

// A reader that stays in its transaction must not make everybody wait who comes behind what waits
// for it.
func TestGoingUpWaitsForALockInShortTurnsAndTellsWhoHoldsIt(t *testing.T) {
	w := setup(t)
	config, err := pgx.ParseConfig(w.url)
	require.NoError(t, err)
	reader := w.another()
	reader.exec(`SET application_name = 'a report'`)
	reader.exec(`BEGIN`)
	reader.exec(`SELECT FROM bbm.batched_background_migrations`)
	who := fmt.Sprintf("process %d (role ", one[int](reader, `SELECT pg_backend_pid()`))

	// Given up: nothing is undone, and the error says who was in the way.
	ctx, cancel := context.WithCancel(t.Context())
	_, err = schema.Down(ctx, config, func(string) { cancel() })
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, who)
	require.ErrorContains(t, err, "application a report, ")

	// While it waits, others go on: in a pause nobody waits for a lock.
	other := w.another()
	var told []string
	names, err := schema.Down(t.Context(), config, func(message string) {
		told = append(told, message)
		assert.False(t, one[bool](other, `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`))
		other.exec(`SELECT FROM bbm.fleet_settings`)
		reader.exec(`COMMIT`)
	})
	require.NoError(t, err)
	require.Len(t, told, 1)
	require.Contains(t, told[0], who)
	require.NotEmpty(t, names)
	require.Equal(t, files(t), up(t, w.url))
}
