package main

import (
	"fmt"
	"math"
	"strings"
)

// figure is one of the figures that the project has set itself.
type figure struct {
	what     string
	limit    float64
	unit     string
	measured float64 // NaN: not measured
}

// verdict says whether a figure is reached.
func (f figure) verdict() string {
	switch {
	case math.IsNaN(f.measured):
		return "not measured"
	case f.measured <= f.limit:
		return "reached"
	}
	return "**missed**"
}

// figures compares what was measured with what was to be reached.
func (b *bench) figures() []figure {
	ratio := func(contender, reference string) float64 {
		for _, s := range b.comparisons {
			if s.layout.name == bigintLayout.name {
				ratio, _, _ := s.results.ratio(contender, reference)
				return ratio
			}
		}
		return math.NaN()
	}
	return []figure{
		{"1 worker, 1,000 rows a transaction ÷ PL/pgSQL loop", 0.85, "", ratio(fixedOne, serverLoop)},
		{"1 worker ÷ UPDATE", 0.95, "", ratio(adaptiveOne, plainUpdate)},
		{"2 workers ÷ UPDATE", 0.65, "", ratio(adaptiveTwo, plainUpdate)},
		{"own statements' share of the server's time, 1 worker", 3, " %", b.ownShare(adaptiveOne)},
		{"the same at 1,000 rows a transaction", 3, " %", b.ownShare(fixedOne)},
		{"runner's peak memory, all runs", 40, " MB", b.peakMemory()},
		{"memory at 100 times the rows ÷ memory before, 1 worker", 1.1, "", b.growth(func(s *scaling) (float64, float64) {
			peaks := s.peaks(adaptiveOne)
			return float64(peaks[0]), float64(peaks[2])
		})},
		{"cost of a row at 10 times the rows ÷ cost before, 1 worker", 1.1, "", b.growth(func(s *scaling) (float64, float64) {
			costs := s.perRow(adaptiveOne)
			return costs[1], costs[2]
		})},
	}
}

// ownShare is in percent.
func (b *bench) ownShare(contender string) float64 {
	for _, s := range b.shares {
		if s.contender == contender {
			return 100 * s.ownShare()
		}
	}
	return math.NaN()
}

// peakMemory is the worst of all runs, in megabytes.
func (b *bench) peakMemory() float64 {
	worst := 0.0
	for _, s := range b.sections() {
		for _, m := range s.results {
			worst = max(worst, float64(m.peakBytes)/1e6)
		}
	}
	if worst == 0 {
		return math.NaN()
	}
	return worst
}

func (b *bench) growth(of func(*scaling) (before, after float64)) float64 {
	if b.large == nil {
		return math.NaN()
	}
	before, after := of(b.large)
	return after / before // NaN where nothing was measured
}

func (b *bench) writeFigures(r *strings.Builder) {
	fmt.Fprintf(r, "\n## Figures to reach\n\nRatios of wall time on the base table, or as named.\n\n")
	var rows [][]string
	for _, f := range b.figures() {
		measured := "–"
		if !math.IsNaN(f.measured) {
			measured = fmt.Sprintf("%.2f%s", f.measured, f.unit)
		}
		rows = append(rows, []string{f.what, fmt.Sprintf("%g%s", f.limit, f.unit), measured, f.verdict()})
	}
	writeTable(r, []string{"figure", "at most", "measured", ""}, rows)
}
