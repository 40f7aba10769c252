package bbm

import (
	"context"
	"errors"
	"fmt"
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

func TestAnErrorAboutARowIsPassedOnAsOne(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for name, tc := range map[string]struct {
		given error
		ofRow bool
	}{
		"none":         {nil, false},
		"another":      {boom, false},
		"of a row":     {&RowError{Err: boom}, true},
		"wrapped":      {fmt.Errorf("user 7: %w", &RowError{Err: boom}), true},
		"without more": {&RowError{}, true},
	} {
		w := Work{Name: "w", Version: "1", Do: func(context.Context, pgx.Tx, Batch) (int64, error) { return 3, tc.given }}
		affected, err := w.registered().Do(t.Context(), nil, work.Batch{})
		assert.EqualValues(t, 3, affected)
		require.ErrorIs(t, err, tc.given, name)
		assert.Equal(t, tc.ofRow, work.BlamesRow(err), name)
		if tc.given != nil {
			assert.Equal(t, tc.given.Error(), err.Error(), name)
		}
	}
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
