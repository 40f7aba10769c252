package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// startServer ends the server, if it runs, and starts it again.
func (r *round) startServer(ctx context.Context) {
	if err := r.server.Restart(ctx); err != nil && ctx.Err() == nil {
		r.complain(&r.other, "the server does not start again: %s", err)
	}
}

// heal ends all disturbances: networks and server are well, and everything may run.
func (r *round) heal(ctx context.Context) {
	for _, u := range r.units {
		u.proxy.Heal()
	}
	r.isHard.Store(false)
	r.tell("the disturbances are over")
	r.control(ctx, "enable")
	r.control(ctx, "set", "--fleet", "slots=4")
	for _, m := range r.migrations {
		if !m.known {
			r.enqueue(ctx, m)
		}
	}
}

// awaitEnds does what whoever is on call would do, and waits until every migration has ended.
func (r *round) awaitEnds(ctx context.Context) {
	deadlineCtx, cancel := context.WithTimeout(ctx, r.deadline)
	defer cancel()
	tuned := make(map[string]bool)
	for deadlineCtx.Err() == nil {
		statuses, err := r.statuses(deadlineCtx)
		if err != nil {
			r.tell("statuses: %s", err)
			pause(deadlineCtx, 100*time.Millisecond)
			continue
		}
		left := 0
		for _, m := range r.migrations {
			status := statuses[m.name]
			if isEnded(status) {
				continue
			}
			left++
			if !tuned[m.name] {
				// What is left is to be done soon; a work that stumbles needs many attempts to get through.
				tuned[m.name] = r.control(ctx, "set", m.name, "pause=0s", "interval=0s", "parallelism=4", "max_attempts=1000",
					"on_row_error="+m.policy(), "quarantine_limit=1000")
			}
			switch status {
			case "failed":
				r.control(ctx, "retry", m.name)
			case "paused":
				r.control(ctx, "resume", m.name)
			default: // on hold, perhaps
				r.exec(ctx, `UPDATE bbm.batched_background_migrations SET on_hold_until = NULL, hold_reason = NULL WHERE name = $1`, m.name)
			}
		}
		if left == 0 {
			return
		}
		r.hurry(ctx)
		pause(deadlineCtx, 200*time.Millisecond)
	}
	if ctx.Err() != nil {
		return
	}
	statuses, _ := r.statuses(ctx)
	for _, m := range r.migrations {
		if status := statuses[m.name]; !isEnded(status) {
			r.complain(&r.stuck, "migration %q is %q %s after the disturbances were over", m.name, status, r.deadline)
			r.describe(ctx, m.name)
		}
	}
}

// policy is what is to become of rows that fail alone, in the end: one that stumbles is tried again.
func (m *migration) policy() string {
	if strings.HasSuffix(m.work, workRefuse) || strings.HasSuffix(m.work, workProve) {
		return "quarantine"
	}
	return "fail"
}

// mend makes the rows that were refused acceptable, and has those that were left out tried again.
func (r *round) mend(ctx context.Context) {
	if !r.exec(ctx, mended) {
		r.complain(&r.other, "the work could not be mended")
	}
	for _, m := range r.migrations {
		r.control(ctx, "quarantine", "retry", m.name)
	}
}

// describe writes down what the commands tell of a migration.
func (r *round) describe(ctx context.Context, name string) {
	for _, args := range [][]string{{"status", name, "--json"}, {"jobs", name, "--json"}, {"logs", name, "--json"}} {
		_, output, err := r.program.call(ctx, r.url, r.works, args...)
		if err != nil {
			output = err.Error()
		}
		_ = os.WriteFile(filepath.Join(r.dir, args[0]+"-"+name+".json"), []byte(output), 0o644)
	}
}
