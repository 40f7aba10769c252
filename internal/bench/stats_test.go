package main

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMedianIsTheMiddleWhateverTheOrder(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{3}, 3},
		{[]float64{9, 1}, 5},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 100, 1, 2}, 3},
	} {
		require.InDelta(t, c.want, median(c.values), 1e-9, "%v", c.values)
	}
	values := []float64{3, 1, 2}
	median(values)
	require.Equal(t, []float64{3, 1, 2}, values, "the caller's order stays")
}

func measured(contender string, round int, seconds float64) measurement {
	return measurement{contender: contender, round: round, wall: time.Duration(seconds * float64(time.Second))}
}

func TestRatioIsOfMediansAndItsExtentWithinRounds(t *testing.T) {
	t.Parallel()
	// The machine is twice as slow in the second round, which touches both.
	s := series{
		measured("a", 1, 1), measured("b", 1, 2),
		measured("b", 2, 4), measured("a", 2, 2),
		measured("a", 3, 1), measured("b", 3, 1),
	}
	ratio, lowest, highest := s.ratio("a", "b")
	require.InDelta(t, 0.5, ratio, 1e-9)
	require.InDelta(t, 0.5, lowest, 1e-9)
	require.InDelta(t, 1, highest, 1e-9)

	shortest, longest := s.of("b").extent()
	require.InDelta(t, 1, shortest, 1e-9)
	require.InDelta(t, 4, longest, 1e-9)
}

func TestRatioToSomethingThatDidNotRunIsNoNumber(t *testing.T) {
	t.Parallel()
	ratio, _, _ := series{measured("a", 1, 1)}.ratio("a", "b")
	require.True(t, math.IsNaN(ratio))
	require.Equal(t, "not measured", figure{limit: 1, measured: ratio}.verdict())
	require.Equal(t, "reached", figure{limit: 1, measured: 1}.verdict())
	require.Equal(t, "**missed**", figure{limit: 1, measured: 1.01}.verdict())
}

func TestMachineTimesAreReadFromProc(t *testing.T) {
	t.Parallel()
	busy, stolen := machineTimes("cpu  100 10 50 100000 7 2 3 40 0 0")
	require.Equal(t, 1650*time.Millisecond, busy, "neither idle, nor waiting for a disk, nor stolen")
	require.Equal(t, 400*time.Millisecond, stolen)
	busy, _ = machineTimes("nothing of the kind")
	require.Zero(t, busy)
}

func TestProcessTimesAreReadBehindAnyName(t *testing.T) {
	t.Parallel()
	stat, ok := readStat("77 (a) b (c) S 5 1 1 0 -1 4194560 1 2 3 4 250 50 700 100 20 0 1 0 9 0 0\n")
	require.True(t, ok)
	require.Equal(t, processStat{pid: 77, parent: 5, own: 3 * time.Second, children: 8 * time.Second}, stat)
	_, ok = readStat("")
	require.False(t, ok)
}

func TestPeakMemoryIsTheHighWaterMark(t *testing.T) {
	t.Parallel()
	require.Equal(t, int64(16500*1024), highWaterMark("Name:\tx\nVmPeak:\t  99 kB\nVmHWM:\t   16500 kB\nVmRSS:\t 1 kB\n"))
	require.Zero(t, highWaterMark(""))
}
