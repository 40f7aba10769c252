package main

import (
	"fmt"
	"math"
	"slices"
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
	sections := b.comparisons
	if b.large != nil {
		sections = append(slices.Clone(sections), b.large.sizes...)
	}
	worst := 0.0
	for _, s := range sections {
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

func (b *bench) writeShares(r *strings.Builder) {
	if !b.wants(sectionShare) {
		return
	}
	fmt.Fprintf(r, "\n## Where the time goes\n\n")
	if b.noShares != nil {
		fmt.Fprintf(r, "Not measured: %s.\n", b.noShares)
		return
	}
	fmt.Fprintf(r, "From runs of their own, as asking costs something. Statements: execution and planning on the server, from pg_stat_statements. "+
		"Sessions: what the runner's were found at, looked at every %s.\n", sampleInterval)
	for _, s := range b.shares {
		s.write(r)
	}
}

func (s share) write(r *strings.Builder) {
	fmt.Fprintf(r, "\n### %s\n\nOwn statements, which is all but the work and the ends of transactions: **%.1f %%** of the server's time. Wall time %.2f s.\n\n",
		s.contender, 100*s.ownShare(), s.wall.Seconds())
	var all float64
	for _, class := range s.statements {
		all += class.time.Seconds()
	}
	var rows [][]string
	for _, class := range s.statements {
		rows = append(rows, []string{class.name, count(int(class.calls)), fmt.Sprintf("%.3f", class.time.Seconds()),
			fmt.Sprintf("%.1f %%", 100*class.time.Seconds()/all)})
	}
	writeTable(r, []string{"statements", "calls", "s", "share"}, rows)
	rows = nil
	for _, w := range s.waits {
		if share := float64(w.samples) / float64(s.samples); share >= 0.005 {
			rows = append(rows, []string{strings.TrimSpace(w.state + " " + w.event), fmt.Sprintf("%.1f %%", 100*share)})
		}
	}
	fmt.Fprintln(r)
	writeTable(r, []string{"sessions", "share of looks"}, rows)
}

func (b *bench) writeScaling(r *strings.Builder) {
	if b.large == nil {
		return
	}
	fmt.Fprintf(r, "\n## Size of the table\n\nOn a server with `%s`, so that all of it fits into memory. Rounds: %d. Microseconds a row (median), and the runner's peak memory (worst).\n\n",
		describeSettings(scalingSettings), b.variantRuns)
	headings := []string{"contender"}
	for _, s := range b.large.sizes {
		headings = append(headings, count(s.rows)+" rows, µs a row", "MB")
	}
	headings = append(headings, "last ÷ second")
	var rows [][]string
	for _, c := range b.large.sizes[0].contenders {
		costs, peaks := b.large.perRow(c.name), b.large.peaks(c.name)
		row := []string{c.name}
		for i := range costs {
			peak := "–"
			if peaks[i] > 0 {
				peak = fmt.Sprintf("%.1f", float64(peaks[i])/1e6)
			}
			row = append(row, fmt.Sprintf("%.2f", 1e6*costs[i]), peak)
		}
		rows = append(rows, append(row, fmt.Sprintf("%.2f", costs[2]/costs[1])))
	}
	writeTable(r, headings, rows)
}
