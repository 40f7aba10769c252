package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/localpg"
)

// The times mean nothing here; every contender's proof that it has changed each row once does.
func TestAQuickRunMeasuresEveryContenderAndWritesItsReport(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes some twenty seconds")
	}
	if _, _, err := localpg.Find(t.Context(), os.Getenv(binVariable)); errors.Is(err, localpg.ErrNotFound) {
		t.Skip(err)
	}
	path := filepath.Join(t.TempDir(), "benchmarks.md")
	o, err := readOptions([]string{"--quick", "--only", "bigint,composite,share,large", "--out", path})
	require.NoError(t, err)
	require.NoError(t, run(t.Context(), o))

	text, err := os.ReadFile(path)
	require.NoError(t, err)
	report := string(text)
	for _, c := range contenders() {
		require.Contains(t, report, "\n| bigint | 1 | "+c.name+" | ")
	}
	require.Contains(t, report, "\n| composite | 1 | "+serverLoop+" | ")
	require.Contains(t, report, "\n| 200,000 rows | 1 | "+adaptiveTwo+" | ")
	require.Contains(t, report, "\n### "+adaptiveTwo+"\n")
	require.Contains(t, report, "\n| "+statementWork+" | ")
	require.Contains(t, report, "\n| "+statementBoundary+" | ")
	require.Contains(t, report, "\n| JobProgress | ")
	require.NotContains(t, report, "NaN")
}

func TestAProfileOfTheRunnerIsWritten(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a server")
	}
	if _, _, err := localpg.Find(t.Context(), os.Getenv(binVariable)); errors.Is(err, localpg.ErrNotFound) {
		t.Skip(err)
	}
	path := filepath.Join(t.TempDir(), "cpu.pprof")
	o, err := readOptions([]string{"--quick", "--cpuprofile", path, "--workers", "2"})
	require.NoError(t, err)
	require.NoError(t, run(t.Context(), o))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.NotZero(t, info.Size())
}

func TestOptionsThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--only", "bigints"}, {"--rows", "0"}, {"--runs", "-1"}, {"--no-such"}} {
		_, err := readOptions(args)
		require.Error(t, err, "%v", args)
	}
}

func TestOnlyTheFullRunReplacesTheReport(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		out  string
	}{
		{nil, "docs/benchmarks.md"},
		{[]string{"--large"}, "docs/benchmarks.md"},
		{[]string{"--quick"}, "-"},
		{[]string{"--only", "uuid"}, "-"},
		{[]string{"--quick", "--out", "x.md"}, "x.md"},
	} {
		o, err := readOptions(c.args)
		require.NoError(t, err)
		require.Equal(t, c.out, o.out, "%v", c.args)
	}
}
