package main

import (
	"context"
	"math/rand/v2"
	"strings"
	"syscall"
	"time"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

// act is one thing that may happen to a round. It draws what it needs from a generator of its own, so that a seed's choices do not depend on how
// far the round has come. It reports whether it happened: a runner that is not there cannot be killed.
type act struct {
	name   string
	weight int
	do     func(ctx context.Context, r *round, rng *rand.Rand) bool
}

// The names that counters and totals go by.
const (
	actKill      = "kill -9"
	actTerm      = "SIGTERM"
	actFreeze    = "SIGSTOP"
	actCrash     = "server crash"
	actRestart   = "server restart"
	actReset     = "network reset"
	actStall     = "network stall"
	actSwallow   = "network swallow"
	actDelay     = "network delay"
	actTerminate = "pg_terminate_backend"
	actCancelled = "pg_cancel_backend"
	actEnqueue   = "enqueue"
	actPause     = "pause"
	actResume    = "resume"
	actCancel    = "cancel"
	actRetry     = "retry"
	actDisable   = "disable"
	actSet       = "set"
	actSlots     = "set --fleet"
	actLeftOut   = "quarantine retry"
	actSwap      = "table swap"
	actDDL       = "DDL"
	actReadOnly  = "read-only server"
	actStatus    = "status"
)

var controlActs = []string{actEnqueue, actPause, actResume, actCancel, actRetry, actDisable, actSet, actSlots, actLeftOut}

var acts = []act{
	{actKill, 30, func(_ context.Context, r *round, rng *rand.Rand) bool { return r.signal(rng, syscall.SIGKILL) }},
	{actTerm, 6, func(_ context.Context, r *round, rng *rand.Rand) bool { return r.signal(rng, syscall.SIGTERM) }},
	{actFreeze, 8, freeze},
	{actCrash, 3, crash},
	{actRestart, 2, restart},
	{actReset, 5, reset},
	{actStall, 4, stall},
	{actSwallow, 4, swallow},
	{actDelay, 2, delay},
	{actTerminate, 6, terminate},
	{actCancelled, 1, cancelBackend},
	{actEnqueue, 0, nil}, // as often as a migration ends
	{actPause, 5, pauseMigration},
	{actResume, 4, resumeMigration},
	{actCancel, 1, cancelMigration},
	{actRetry, 3, retryMigrations},
	{actDisable, 2, disable},
	{actSet, 10, setMigration},
	{actSlots, 4, setSlots},
	{actLeftOut, 2, retryLeftOut},
	{actSwap, 3, swapTable},
	{actDDL, 4, changeTable},
	{actReadOnly, 2, readOnly},
	{actStatus, 2, func(ctx context.Context, r *round, _ *rand.Rand) bool { return r.control(ctx, "status", "--json") }},
}

// drawAct chooses by weight.
func drawAct(rng *rand.Rand) act {
	total := 0
	for _, a := range acts {
		total += a.weight
	}
	n := rng.IntN(total)
	for _, a := range acts {
		if n -= a.weight; n < 0 {
			return a
		}
	}
	panic("unreachable")
}

// freeze stops a runner and lets it go on later; sometimes its sessions have been ended meanwhile, and others have gone on with its job.
func freeze(ctx context.Context, r *round, rng *rand.Rand) bool {
	u, length, isCutOff := r.unit(rng), milliseconds(rng, 20, 2500), rng.IntN(2) == 0
	frozen := u.free()
	if frozen == nil || !frozen.signal(syscall.SIGSTOP) {
		return false
	}
	if isCutOff {
		r.exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1 OR starts_with(application_name, $1 || ' ')`, applicationName(u.number))
	}
	r.later(ctx, length, func() { frozen.signal(syscall.SIGCONT) })
	return true
}

func crash(ctx context.Context, r *round, rng *rand.Rand) bool {
	down := milliseconds(rng, 0, 400)
	r.server.Crash()
	pause(ctx, down)
	r.startServer(ctx)
	return true
}

func restart(ctx context.Context, r *round, _ *rand.Rand) bool {
	r.startServer(ctx) // ends it first
	return true
}

func reset(_ context.Context, r *round, rng *rand.Rand) bool {
	r.unit(rng).proxy.Reset(directions(rng)...)
	return true
}

// stall ends by going on, or by a reset.
func stall(ctx context.Context, r *round, rng *rand.Rand) bool {
	proxy, length, isReset := r.unit(rng).proxy, milliseconds(rng, 20, 3000), rng.IntN(2) == 0
	proxy.Stall(directions(rng)...)
	r.later(ctx, length, func() {
		proxy.Heal()
		if isReset {
			proxy.Reset()
		}
	})
	return true
}

// swallow ends by a reset after the healing: a connection that has lost bytes would stay deaf for ever, which no network does.
func swallow(ctx context.Context, r *round, rng *rand.Rand) bool {
	proxy, length := r.unit(rng).proxy, milliseconds(rng, 20, 3000)
	proxy.Swallow(directions(rng)...)
	r.later(ctx, length, func() {
		proxy.Heal()
		proxy.Reset()
	})
	return true
}

func delay(ctx context.Context, r *round, rng *rand.Rand) bool {
	proxy, length := r.unit(rng).proxy, milliseconds(rng, 100, 2000)
	proxy.Delay(milliseconds(rng, 1, 40))
	r.later(ctx, length, proxy.Heal)
	return true
}

// terminate ends one session of the runners, or all.
func terminate(ctx context.Context, r *round, rng *rand.Rand) bool {
	limit := 1
	if rng.IntN(4) == 0 {
		limit = 100
	}
	return r.exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'tortured%'
		ORDER BY hashint8(pid + $1) LIMIT $2`, rng.Int32(), limit)
}

func cancelBackend(ctx context.Context, r *round, rng *rand.Rand) bool {
	return r.exec(ctx, `SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'tortured%' AND state = 'active'
		ORDER BY hashint8(pid + $1) LIMIT 1`, rng.Int32())
}

func pauseMigration(ctx context.Context, r *round, rng *rand.Rand) bool {
	name, length := r.migration(rng), milliseconds(rng, 0, 2000)
	if !r.control(ctx, "pause", name, "--reason", "torture") {
		return false
	}
	r.later(ctx, length, func() { r.control(ctx, "resume", name) })
	return true
}

func resumeMigration(ctx context.Context, r *round, rng *rand.Rand) bool {
	return r.control(ctx, "resume", r.migration(rng))
}

func cancelMigration(ctx context.Context, r *round, rng *rand.Rand) bool {
	return r.control(ctx, "cancel", r.migration(rng), "--reason", "torture")
}

func retryMigrations(ctx context.Context, r *round, _ *rand.Rand) bool {
	return r.control(ctx, "retry", "--all")
}

func retryLeftOut(ctx context.Context, r *round, rng *rand.Rand) bool {
	return r.control(ctx, "quarantine", "retry", r.migration(rng))
}

func disable(ctx context.Context, r *round, rng *rand.Rand) bool {
	length := milliseconds(rng, 0, 1000)
	if !r.control(ctx, "disable", "--reason", "torture") {
		return false
	}
	r.later(ctx, length, func() { r.control(ctx, "enable") })
	return true
}

func setMigration(ctx context.Context, r *round, rng *rand.Rand) bool {
	pairs := []string{
		"sub_batch_size=" + number(rng, 100), "sub_batch_size=auto", "pause=" + milliseconds(rng, 0, 20).String(), "parallelism=" + number(rng, 4),
		"max_attempts=" + number(rng, 8), "asynchronous_commit=on", "asynchronous_commit=off", "interval=" + milliseconds(rng, 0, 50).String(),
		"on_row_error=fail", "on_row_error=quarantine", "quarantine_limit=" + number(rng, 20),
	}
	return r.control(ctx, "set", r.migration(rng), pairs[rng.IntN(len(pairs))])
}

func setSlots(ctx context.Context, r *round, rng *rand.Rand) bool {
	return r.control(ctx, "set", "--fleet", "slots="+number(rng, 4))
}

func directions(rng *rand.Rand) []dbtest.Direction {
	return [][]dbtest.Direction{nil, {dbtest.ToServer}, {dbtest.ToClient}}[rng.IntN(3)]
}

// milliseconds favours short times: half of them are below a quarter of the most.
func milliseconds(rng *rand.Rand, least, most int) time.Duration {
	part := rng.Float64()
	return time.Duration(least+int(part*part*float64(most-least))) * time.Millisecond
}

// named shows what an act was called with.
func named(args []string) string { return strings.Join(args, " ") }
