package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/bbm-runner/bbm-runner/internal/plans"
)

// base is what the large scale is measured against: alike but for the number of jobs.
var base = plans.Scale{Migrations: plans.Large.Migrations, Spread: 9, Jobs: 10_000}

const (
	warmUps = 100
	rounds  = 1500
	// bufferRounds come after the timed ones, in which counting would cost time.
	bufferRounds  = 200
	statusEvery   = 7 // rounds
	reportFile    = "docs/scale.md"
	statusMeasure = "status of the migration with nine in ten jobs"
)

// figures are what is measured of one operation in one database.
type figures struct {
	times   []time.Duration
	buffers []int64
}

func (f figures) quantile(q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(f.times))
	return sorted[min(int(float64(len(sorted))*q), len(sorted)-1)]
}

// pages is the median; 0 where none were counted.
func (f figures) pages() int64 {
	if len(f.buffers) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(f.buffers))[len(f.buffers)/2]
}

// bench measures both databases in turns, in one run, and writes the report.
func bench(ctx context.Context) (err error) {
	cluster, err := plans.OpenCluster(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	var both [2]*cycle
	for i, d := range []struct {
		name  string
		scale plans.Scale
	}{{"base", base}, {"large", plans.Large}} {
		url, err := open(ctx, cluster, d.name, d.scale)
		if err != nil {
			return err
		}
		if both[i], err = openCycle(ctx, url, plans.HeavyName(d.scale)); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, both[i].conn.Close(ctx)) }()
	}

	measured, err := measure(ctx, both, rounds, bufferRounds)
	if err != nil {
		return err
	}
	text := report(cluster.Version(), measured)
	fmt.Print(text)
	return os.WriteFile(reportFile, []byte(text), 0o644)
}

// measure returns the figures of each operation in both databases, by its name.
func measure(ctx context.Context, both [2]*cycle, rounds, bufferRounds int) (map[string]*[2]figures, error) {
	measured := make(map[string]*[2]figures)
	for _, o := range operations {
		measured[o.name] = new([2]figures)
	}
	measured[statusMeasure] = new([2]figures)
	for round := range warmUps + rounds {
		if err := measureTimes(ctx, both, round, measured); err != nil {
			return nil, err
		}
	}
	for range bufferRounds {
		for _, o := range operations {
			for i, c := range both {
				pages, err := c.buffers(ctx, o)
				if err != nil {
					return nil, err
				}
				measured[o.name][i].buffers = append(measured[o.name][i].buffers, pages)
			}
		}
	}
	return measured, nil
}

// measureTimes runs every operation once in both databases, the other one first each time.
func measureTimes(ctx context.Context, both [2]*cycle, round int, measured map[string]*[2]figures) error {
	order := []int{round % 2, 1 - round%2}
	for _, o := range operations {
		for _, i := range order {
			took, err := both[i].time(ctx, o)
			if err != nil {
				return err
			}
			if round >= warmUps {
				measured[o.name][i].times = append(measured[o.name][i].times, took)
			}
		}
	}
	if round%statusEvery != 0 {
		return nil
	}
	for _, i := range order {
		start := time.Now()
		if err := both[i].status(ctx); err != nil {
			return err
		}
		if round >= warmUps {
			measured[statusMeasure][i].times = append(measured[statusMeasure][i].times, time.Since(start))
		}
	}
	return nil
}
