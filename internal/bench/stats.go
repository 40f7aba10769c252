package main

import (
	"math"
	"slices"
	"time"
)

// measurement is one timed run of one contender.
type measurement struct {
	contender string
	round     int // from 1; the order within a round is the order of the slice
	wall      time.Duration
	cpu       cpuUse
	walBytes  int64
	peakBytes int64 // of the runner's process; 0 for others
}

// cpuUse is processor time during a run; zero where the platform does not tell.
type cpuUse struct {
	server, client time.Duration
	// other is what neither of them used: other programs, and the kernel's own threads.
	other time.Duration
	// stolen is what the hypervisor gave to other machines.
	stolen time.Duration
}

// median of an even number of values is the mean of the two in the middle; 0 for none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// series are the measurements of one section.
type series []measurement

// of returns one contender's measurements, in the order of the rounds.
func (s series) of(contender string) series {
	return slices.DeleteFunc(slices.Clone(s), func(m measurement) bool { return m.contender != contender })
}

// medianOf is the median of a quantity; 0 for none.
func (s series) medianOf(quantity func(measurement) float64) float64 {
	values := make([]float64, len(s))
	for i, m := range s {
		values[i] = quantity(m)
	}
	return median(values)
}

// wall is the median wall time in seconds.
func (s series) wall() float64 { return s.medianOf(wallSeconds) }

// extent is the shortest and the longest wall time in seconds.
func (s series) extent() (shortest, longest float64) {
	if len(s) == 0 {
		return 0, 0
	}
	shortest = math.Inf(1)
	for _, m := range s {
		shortest, longest = min(shortest, wallSeconds(m)), max(longest, wallSeconds(m))
	}
	return shortest, longest
}

// ratio compares two contenders: the ratio of their medians, and the extent of the ratios within a round, which tells how far to trust it. NaN
// where one of them did not run.
func (s series) ratio(contender, reference string) (ratio, lowest, highest float64) {
	a, b := s.of(contender), s.of(reference)
	if len(a) == 0 || len(b) == 0 {
		return math.NaN(), math.NaN(), math.NaN()
	}
	lowest, highest = math.Inf(1), math.Inf(-1)
	for _, m := range a {
		for _, n := range b {
			if m.round == n.round {
				r := wallSeconds(m) / wallSeconds(n)
				lowest, highest = min(lowest, r), max(highest, r)
			}
		}
	}
	return a.wall() / b.wall(), lowest, highest
}

func wallSeconds(m measurement) float64 { return m.wall.Seconds() }

func seconds(of func(measurement) time.Duration) func(measurement) float64 {
	return func(m measurement) float64 { return of(m).Seconds() }
}
