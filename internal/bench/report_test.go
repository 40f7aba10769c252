package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNumbersGetSeparators(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 20_000: "20,000", 1_000_000: "1,000,000", 123_456: "123,456"} {
		require.Equal(t, want, count(n))
	}
}

func TestNotesSurviveTheNextReport(t *testing.T) {
	t.Parallel()
	b := &bench{options: options{out: filepath.Join(t.TempDir(), "docs", "benchmarks.md")}}
	require.NoError(t, b.write("# First\n"))
	const notes = "\n## Notes\n\nWhy it is so.\n\n## More\n"
	text, err := os.ReadFile(b.out)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(b.out, append(text, notes...), 0o600))

	require.NoError(t, b.write("# Second\n"))
	text, err = os.ReadFile(b.out)
	require.NoError(t, err)
	require.Equal(t, "# Second\n"+notes, string(text))
}

func TestStatementsAreNamedByTheirText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"-- name: JobFence :one\nSELECT 1":                                            "JobFence",
		"UPDATE app.accounts AS a SET balance = a.balance + $1 WHERE a.id <= $2":      statementWork,
		"WITH edge AS MATERIALIZED (\n    SELECT u.id FROM \"app\".\"accounts\" AS u": statementBoundary,
		"SELECT\n    set_config($1, $2, true) -- enable_sort":                         statementSettings,
		"SELECT 1": statementOther,
	} {
		require.Equal(t, want, statementName(text))
	}
}

func TestOwnShareIsAllButTheWork(t *testing.T) {
	t.Parallel()
	s := share{statements: []statement{
		{name: statementWork, planning: time.Second, executed: 8 * time.Second},
		{name: "JobProgress", planning: 600 * time.Millisecond, executed: 200 * time.Millisecond},
		{name: statementBoundary, executed: 200 * time.Millisecond},
	}}
	require.InDelta(t, 0.1, s.ownShare(), 1e-9)
	require.Zero(t, share{}.ownShare())
}

func TestScalingComparesTheCostOfARow(t *testing.T) {
	t.Parallel()
	s := &scaling{sizes: []*section{
		{rows: 10, results: series{{contender: "a", peakBytes: 5}}},
		{rows: 100, results: series{measured("a", 1, 1), measured("a", 2, 3), measured("a", 3, 2)}},
		{rows: 1000, results: series{measured("a", 1, 30), {contender: "a", peakBytes: 6}, {contender: "a", wall: time.Minute, peakBytes: 4}}},
	}}
	costs := s.perRow("a")
	require.InDelta(t, 0.02, costs[1], 1e-9)
	require.InDelta(t, 0.03, costs[2], 1e-9)
	require.Equal(t, []int64{5, 0, 6}, s.peaks("a"))
}
