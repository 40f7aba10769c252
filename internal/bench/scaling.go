package main

import "context"

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
		return &section{name: count(rows) + " rows", layout: bigintLayout, rows: rows, rounds: b.variantRuns, contenders: few}
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
