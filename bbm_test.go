package bbm

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/work"
)

func TestAWorkIsRegisteredWithAllThatItSays(t *testing.T) {
	t.Parallel()
	w := Work{
		Name: "hash", Version: "2", Description: "Hash.", Table: "app.users", Cursor: []string{"tenant", "id"}, RepeatedKeys: true,
		Scope: "pepper IS NULL", Remaining: "hash IS NULL",
		Arguments: []Argument{{Name: "salt", Type: "text"}}, BatchSize: 100, SubBatchSize: 10, ExternalEffects: true,
		Do: func(_ context.Context, _ pgx.Tx, b Batch) (int64, error) {
			salt, given := b.Arguments.Get("salt")
			assert.True(t, given)
			assert.Equal(t, "pepper", salt)
			assert.Equal(t, []string{"1", "5"}, b.After)
			assert.Equal(t, []string{"1", "9"}, b.Until)
			assert.Equal(t, "nightly", b.Migration)
			return 7, nil
		},
	}
	registered := w.registered()
	_, err := work.NewRegistry(registered)
	require.NoError(t, err)
	assert.Equal(t, "hash 2 Hash. app.users", registered.Name+" "+registered.Version+" "+registered.Description+" "+registered.Table)
	assert.Equal(t, []string{"tenant", "id"}, registered.Cursor)
	assert.Equal(t, []string{"pepper IS NULL", "hash IS NULL"}, []string{registered.Scope, registered.Remaining})
	assert.True(t, registered.RepeatedKeys)
	assert.True(t, registered.ExternalEffects)
	assert.Equal(t, []work.Argument{{Name: "salt", Type: "text"}}, registered.Arguments)
	assert.Equal(t, []int{100, 10}, []int{registered.BatchSize, registered.SubBatchSize})

	salt := "pepper"
	affected, err := registered.Do(t.Context(), nil, work.Batch{
		Migration: "nightly", After: work.Key{"1", "5"}, Until: work.Key{"1", "9"}, Arguments: work.Arguments{"salt": &salt},
	})
	require.NoError(t, err)
	assert.Equal(t, int64(7), affected)
}

func TestAnIncompleteWorkIsRefused(t *testing.T) {
	t.Parallel()
	for want, w := range map[string]Work{
		"set Do":      {Name: "a", Version: "1", Table: "app.users", Cursor: []string{"id"}},
		"set Version": {Name: "a", Table: "app.users", Cursor: []string{"id"}, Do: func(context.Context, pgx.Tx, Batch) (int64, error) { return 0, nil }},
		"no name":     {Version: "1"},
	} {
		_, err := work.NewRegistry(w.registered())
		require.ErrorContains(t, err, want)
	}
}
