package control

import (
	"cmp"
	"context"
	"time"
)

// defaultWatch is how often Wait looks where nothing else is said: a status costs the server a few milliseconds.
const defaultWatch = time.Second

// Wait looks at the migrations every so often (0: each second), tells seen (may be nil) how they stand, and returns it when all are finished, or as
// soon as one has failed or was cancelled. When ctx ends first the error is ctx.Err(), with what was seen last.
func (c *Control) Wait(ctx context.Context, names []string, every time.Duration, seen func([]Migration)) ([]Migration, error) {
	if len(names) == 0 {
		return nil, inputf("no migration to wait for")
	}
	ticker := time.NewTicker(cmp.Or(every, defaultWatch))
	defer ticker.Stop()
	var last []Migration
	for {
		migrations, err := c.Status(ctx, names...)
		if err != nil {
			// A statement that was cut short by the deadline reports its own cancellation.
			return last, cmp.Or(ctx.Err(), err)
		}
		last = migrations
		if seen != nil {
			seen(migrations)
		}
		if isWaitOver(migrations) {
			return migrations, nil
		}
		select {
		case <-ctx.Done():
			return last, ctx.Err()
		case <-ticker.C:
		}
	}
}

// isWaitOver reports whether there is nothing to wait for any more.
func isWaitOver(migrations []Migration) bool {
	open := 0
	for _, m := range migrations {
		switch m.Status {
		case string(failed), string(cancelled):
			return true
		case string(finished):
		default:
			open++
		}
	}
	return open == 0
}
