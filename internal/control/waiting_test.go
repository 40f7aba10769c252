package control

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// going is a migration that runs with nothing in its way.
func going() dbgen.MigrationListFactsRow {
	now := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	claimed := now.Add(-time.Minute)
	return dbgen.MigrationListFactsRow{
		Migration: dbgen.Migration{
			Name: "m", WorkName: "w", Status: running, WorkChecksum: ptr("abc"), MaxKey: []string{"9"}, FrontierKey: []string{"5"},
			LastClaimedAt: &claimed,
		},
		ObservedAt: now, ExecutionEnabled: true, FleetChangedBy: "bob@host", Slots: 2, EnabledRunners: 1, HasRunnerWithWork: true,
		ChangedBy: "alice@host", RecentRows: 1000, RecentSeconds: 4,
	}
}

func TestWaitingForTellsTheFirstReason(t *testing.T) {
	t.Parallel()
	// Each step adds a reason that goes before all that were added until then.
	f := going()
	assert.Empty(t, waitingFor(f))
	for _, step := range []struct {
		add  func()
		want string
	}{
		{func() { f.Migration.JobInterval = 2 * time.Minute }, "waiting until 2024-05-06T07:09:09Z for its interval of 2m0s"},
		{func() {
			f.Migration.FrontierKey = f.Migration.MaxKey
			f.FailedJobs, f.NextAttemptAt = 1, ptr(f.ObservedAt.Add(time.Hour))
		}, "waiting until 2024-05-06T08:08:09Z for the next attempt of a job"},
		{func() { f.RunningJobs = 1 }, "its runner is lost; the next poll of another puts the job back"},
		{func() { f.LockedSlots = 2 }, "waiting for a slot: all in use (2)"},
		{func() { f.TableUser = "other" }, `waiting for its table, on which migration "other" runs`},
		{func() { f.Awaited = []string{"process 7", "process 9"} }, "waiting for older transactions to end: process 7, process 9"},
		{func() { f.HasRunnerWithWork = false }, "waiting for a runner with this version of the work (abc)"},
		{func() { f.Migration.WorkChecksum = nil }, `waiting for a runner that has the work "w"`},
		{func() { f.HasRunnerWithBrokenWork = true }, `waiting for a runner that has the work "w"; it is broken in one that is connected, whose log tells the mistake`},
		{func() { f.EnabledRunners, f.DisabledRunners = 0, 3 }, `the parameter "enabled" is off in every connected runner (3)`},
		{func() { f.DisabledRunners = 0 }, "no runner is connected"},
		{func() {
			f.Migration.OnHoldUntil, f.Migration.HoldReason = ptr(f.ObservedAt.Add(time.Second)), ptr("disk full")
		}, "on hold until 2024-05-06T07:08:10Z: disk full"},
		{func() { f.ExecutionEnabled = false }, "the fleet is disabled by bob@host"},
		{func() { f.FleetReason = ptr("maintenance") }, "the fleet is disabled by bob@host: maintenance"},
	} {
		step.add()
		assert.Equal(t, step.want, waitingFor(f))
	}
	f.Migration.Status = active
	assert.Equal(t, "the fleet is disabled by bob@host: maintenance", waitingFor(f))
	f.ExecutingJobs = 1
	assert.Empty(t, waitingFor(f), "what executes waits for nothing")
	f.Migration.Status, f.ChangeReason = paused, ptr("deploy")
	assert.Equal(t, "paused by alice@host: deploy", waitingFor(f))
	for _, status := range []dbgen.MigrationStatus{finished, failed, cancelled} {
		f.Migration.Status, f.ExecutingJobs = status, 0
		assert.Empty(t, waitingFor(f), status)
	}
}

func TestWhatHasPassedIsNoReason(t *testing.T) {
	t.Parallel()
	f := going()
	past := f.ObservedAt
	f.Migration.OnHoldUntil, f.Migration.HoldReason = &past, ptr("disk full")
	f.Migration.JobInterval = time.Minute
	f.Migration.FrontierKey, f.NextAttemptAt = f.Migration.MaxKey, &past
	assert.Empty(t, waitingFor(f))
	assert.Nil(t, describe(f, "").Hold)
	f.Migration.FrontierKey, f.NextAttemptAt = nil, ptr(past.Add(time.Hour))
	assert.Empty(t, waitingFor(f), "new jobs can be cut while a failed one waits")
}

func TestAClockThatWasSetBackIsAReason(t *testing.T) {
	t.Parallel()
	f := going()
	f.Migration.LastClaimedAt = ptr(f.ObservedAt.Add(time.Hour))
	assert.Equal(t, "the clock of the server was set back: its last job started at 2024-05-06T08:08:09Z; to go on: bbm-runner resume m", waitingFor(f))
}

func TestProgressIsOneOnlyWhenFinished(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status      dbgen.MigrationStatus
		done, total int64
		want        float64
	}{
		{running, 0, 100, 0}, {running, 25, 100, 0.25}, {running, 100, 100, 0.999}, {running, 300, 100, 0.999}, {running, 5, 0, 0.999},
		{active, 0, 0, 0}, {failed, 50, 100, 0.5}, {finished, 0, 0, 1}, {finished, 90, 100, 1}, {cancelled, 100, 100, 0.999},
	} {
		assert.InDelta(t, c.want, progress(c.status, c.done, c.total), 1e-9, c)
	}
}

func TestPaceIsKnownOnlyOfWhatGoes(t *testing.T) {
	t.Parallel()
	rate, seconds := pace(going(), 501)
	assert.InDelta(t, 250, *rate, 1e-9)
	assert.EqualValues(t, 3, *seconds)
	rate, seconds = pace(going(), -7)
	assert.NotNil(t, rate)
	assert.Nil(t, seconds, "more rows than estimated")
	for name, change := range map[string]func(f *dbgen.MigrationListFactsRow){
		"not running":     func(f *dbgen.MigrationListFactsRow) { f.Migration.Status = active },
		"disabled":        func(f *dbgen.MigrationListFactsRow) { f.ExecutionEnabled = false },
		"nothing done":    func(f *dbgen.MigrationListFactsRow) { f.RecentRows = 0 },
		"no time elapsed": func(f *dbgen.MigrationListFactsRow) { f.RecentSeconds = 0 },
	} {
		f := going()
		change(&f)
		rate, seconds := pace(f, 100)
		assert.Nil(t, rate, name)
		assert.Nil(t, seconds, name)
	}
	between := going()
	between.Migration.JobInterval = time.Hour
	rate, _ = pace(between, 100)
	assert.NotNil(t, rate, "an interval is part of the pace")
}
