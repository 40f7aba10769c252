package control

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// waitingFor says in plain words why a migration that could progress does not; "" when it does, or has ended. The first reason that holds is
// given: what concerns the whole fleet, then what concerns this migration, then what passes by itself.
func waitingFor(f dbgen.MigrationListFactsRow) string {
	switch m := f.Migration; {
	case m.Status == paused:
		return "paused by " + because(f.ChangedBy, f.ChangeReason)
	case m.Status != active && m.Status != running:
		return ""
	case f.ReadOnlyRunners > 0 && f.ReadOnlyRunners >= f.EnabledRunners: // they keep the jobs that they are at
		return "the database is read-only for its runners (default_transaction_read_only is on): whoever has set it turns it off"
	case f.ExecutingJobs > 0:
		return ""
	case !f.ExecutionEnabled:
		return "the fleet is disabled by " + because(f.FleetChangedBy, f.FleetReason)
	case isHeld(f):
		return fmt.Sprintf("on hold until %s: %s", clock(*m.OnHoldUntil), value(m.HoldReason))
	case f.EnabledRunners == 0 && f.DisabledRunners == 0:
		return "no runner is connected"
	case f.EnabledRunners == 0:
		return fmt.Sprintf("the parameter \"enabled\" is off in every connected runner (%d)", f.DisabledRunners)
	case !f.HasRunnerWithWork && f.HasRunnerWithBrokenWork:
		return fmt.Sprintf("waiting for a runner that has the work %q; it is broken in one that is connected, whose log tells the mistake", m.WorkName)
	case !f.HasRunnerWithWork && m.WorkChecksum == nil:
		return fmt.Sprintf("waiting for a runner that has the work %q", m.WorkName)
	case !f.HasRunnerWithWork:
		return fmt.Sprintf("waiting for a runner with this version of the work (%s)", *m.WorkChecksum)
	case len(f.Awaited) > 0:
		return "waiting for older transactions to end: " + strings.Join(f.Awaited, ", ")
	case f.TableUser != "":
		return fmt.Sprintf("waiting for its table, on which migration %q runs", f.TableUser)
	case f.LockedSlots >= int64(f.Slots) && !hasJustChanged(f) && !isBeingWalked(f):
		return fmt.Sprintf("waiting for a slot: all in use (%d)", f.Slots)
	case f.RunningJobs > 0:
		return "its runner is lost; the next poll of another puts the job back"
	case isAllCut(m) && f.NextAttemptAt != nil && f.NextAttemptAt.After(f.ObservedAt):
		return fmt.Sprintf("waiting until %s for the next attempt of a job", clock(*f.NextAttemptAt))
	case isFromTheFuture(f):
		return fmt.Sprintf("the clock of the server was set back: its last job started at %s; to go on: bbm-runner resume %s", clock(*m.LastClaimedAt), m.Name)
	case isBetweenJobs(f) && !isVerifying(f): // a walk keeps no interval
		return fmt.Sprintf("waiting until %s for its interval of %s", clock(m.LastClaimedAt.Add(m.JobInterval)), m.JobInterval)
	}
	return ""
}

// hasJustChanged reports whether this migration was prepared or a job of it ended a moment ago: the runner that did it keeps the slot while it
// claims the next job.
func hasJustChanged(f dbgen.MigrationListFactsRow) bool {
	const moment = time.Second
	return f.Migration.MaxKey != nil && f.ObservedAt.Sub(f.Migration.UpdatedAt) < moment
}

// isVerifying reports whether a walk for rows that remain is under way, be it at rest.
func isVerifying(f dbgen.MigrationListFactsRow) bool { return f.WalkPass > 0 }

// isBeingWalked reports whether a piece of such a walk has been read a moment ago, so that the slot may well be held for the next. A piece takes a
// statement's time at the longest, a minute by default.
func isBeingWalked(f dbgen.MigrationListFactsRow) bool {
	return isVerifying(f) && f.ObservedAt.Sub(f.WalkUpdatedAt) < time.Minute
}

// isAllCut reports whether no new job can be cut.
func isAllCut(m dbgen.Migration) bool {
	return m.MaxKey != nil && slices.Equal(m.FrontierKey, m.MaxKey)
}

// isFromTheFuture reports whether a job has started later than now, and not just by the clocks of two transactions.
func isFromTheFuture(f dbgen.MigrationListFactsRow) bool {
	const skew = time.Minute
	return f.Migration.LastClaimedAt != nil && f.Migration.LastClaimedAt.After(f.ObservedAt.Add(skew))
}

// isBetweenJobs reports whether the interval since the last start of a job has not passed.
func isBetweenJobs(f dbgen.MigrationListFactsRow) bool {
	m := f.Migration
	return m.LastClaimedAt != nil && m.LastClaimedAt.Add(m.JobInterval).After(f.ObservedAt)
}

func because(who string, why *string) string {
	if why == nil || *why == "" {
		return who
	}
	return who + ": " + *why
}

func clock(t time.Time) string { return t.UTC().Format(time.RFC3339) }
