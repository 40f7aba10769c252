package main

import (
	"context"
	"fmt"
	"strings"
)

// scaling compares sizes of the table: the cost per row, and the runner's memory. All of it fits into the server's memory, so that what is compared
// is bbm-runner and not the disk.
type scaling struct {
	sizes []*section // a tenth of the base size, the base size, and ten times that; interleaved
}

var scalingSettings = map[string]string{"shared_buffers": "5GB", "max_wal_size": "24GB"}

func (b *bench) measureScaling(ctx context.Context) error {
	if !b.wants(sectionLarge) {
		return nil
	}
	few := selected(plainUpdate, adaptiveOne, adaptiveTwo)
	size := func(rows int) *section {
		return &section{name: count(rows) + " rows", layout: bigintLayout, rows: rows, rounds: b.variantRuns, contenders: few, repeats: !b.quick}
	}
	b.large = &scaling{sizes: []*section{size(b.rows / 10), size(b.rows), size(10 * b.rows)}}
	return b.onServer(ctx, scalingSettings, func(server *server) error {
		// The largest size's template serves all.
		if err := b.large.sizes[2].warmUp(ctx, server, b.binary); err != nil {
			return err
		}
		for n := range b.variantRuns {
			for _, s := range b.large.sizes {
				if err := s.round(ctx, server, b.binary, n+1, b.progress); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// perRow is the median cost of a row at each size, in seconds.
func (s *scaling) perRow(contender string) []float64 {
	costs := make([]float64, len(s.sizes))
	for i, section := range s.sizes {
		costs[i] = section.results.of(contender).wall() / float64(section.rows)
	}
	return costs
}

// peaks are the runner's largest sizes in memory at each size, in bytes: the worst of all runs of a contender.
func (s *scaling) peaks(contender string) []int64 {
	peaks := make([]int64, len(s.sizes))
	for i, section := range s.sizes {
		for _, m := range section.results.of(contender) {
			peaks[i] = max(peaks[i], m.peakBytes)
		}
	}
	return peaks
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
