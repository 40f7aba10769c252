package main

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// sampleInterval is short beside a run and long beside a look, which takes some 0.3 ms.
const sampleInterval = 10 * time.Millisecond

// sample looks at the runner's sessions until ctx ends.
func (s *share) sample(ctx context.Context, conn *pgx.Conn) error {
	counts := make(map[wait]int)
	ticker := time.NewTicker(sampleInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			s.waits = sortWaits(counts)
			return nil
		case <-ticker.C:
		}
		// Not under ctx, whose end would cut the connection off.
		rows, err := conn.Query(context.WithoutCancel(ctx), `
			SELECT a.state, CASE WHEN a.state = 'active' THEN coalesce(a.wait_event_type || ' ' || a.wait_event, 'on a processor, or waiting for one') ELSE '' END
			FROM pg_stat_activity AS a
			WHERE (a.application_name = 'bbm-runner' OR a.application_name LIKE 'bbm-runner %') AND a.application_name <> 'bbm-runner listener' AND a.state IS NOT NULL`)
		if err != nil {
			return err
		}
		var w wait
		_, err = pgx.ForEachRow(rows, []any{&w.state, &w.event}, func() error {
			counts[w]++
			s.samples++
			return nil
		})
		if err != nil {
			return err
		}
	}
}

func sortWaits(counts map[wait]int) []wait {
	waits := make([]wait, 0, len(counts))
	for w, n := range counts {
		w.samples = n
		waits = append(waits, w)
	}
	slices.SortFunc(waits, func(a, b wait) int {
		return cmp.Or(cmp.Compare(b.samples, a.samples), cmp.Compare(a.state+a.event, b.state+b.event))
	})
	return waits
}
