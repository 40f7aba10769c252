package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/plans"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// A benchmark that nobody runs rots; how long anything takes is no matter here.
func TestTheBenchmarkRuns(t *testing.T) {
	t.Parallel()
	var both [2]*cycle
	for i, scale := range []plans.Scale{{Migrations: 100, Spread: 9, Jobs: 1000}, {Migrations: 100, Spread: 9, Jobs: 4000}} {
		url := dbtest.New(t)
		conn, err := plans.Connect(t.Context(), url)
		require.NoError(t, err)
		require.NoError(t, plans.Seed(t.Context(), conn, scale))
		require.NoError(t, conn.Close(t.Context()))
		both[i], err = openCycle(t.Context(), url, plans.HeavyName(scale))
		require.NoError(t, err)
		t.Cleanup(func() { _ = both[i].conn.Close(t.Context()) })
	}
	measured, err := measure(t.Context(), both, 10, 3)
	require.NoError(t, err)
	for _, o := range operations {
		for _, f := range measured[o.name] {
			assert.Len(t, f.times, 10, o.name)
			assert.Positive(t, f.pages(), o.name)
		}
	}
	text := report(15, measured)
	assert.Contains(t, text, "| record: succeed | ")
	assert.NotContains(t, text, "NaN")
}
