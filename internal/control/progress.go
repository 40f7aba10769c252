package control

import (
	"math"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// almostDone is the progress of a migration that has done all of the estimate but is not finished: the table may have grown.
const almostDone = 0.999

// progress is the done share of the estimated rows, 0 to 1; 1 only when finished.
func progress(status dbgen.MigrationStatus, done, total int64) float64 {
	switch {
	case status == finished:
		return 1
	case done <= 0:
		return 0
	case total <= 0:
		return almostDone
	}
	return min(float64(done)/float64(total), almostDone)
}

// pace is the speed of the last ten jobs (rows a second, from the first one's start to the last change) and the seconds that the remaining
// rows take at it. Both are nil when the migration does not run, waits for something or looks for what remains, and before anything is measured;
// the seconds also when more rows were walked than were estimated.
func pace(f dbgen.MigrationListFactsRow, remaining int64) (rowsPerSecond *float64, seconds *int64) {
	isGoing := f.ExecutingJobs > 0 || waitingFor(f) == "" && !isVerifying(f) || isBetweenJobs(f)
	if f.Migration.Status != running || !isGoing || f.RecentRows <= 0 || f.RecentSeconds <= 0 {
		return nil, nil
	}
	rate := float64(f.RecentRows) / f.RecentSeconds
	rounded := math.Round(rate*10) / 10
	if remaining <= 0 {
		return &rounded, nil // the estimate was too low: how many rows are left nobody knows
	}
	left := int64(math.Ceil(float64(remaining) / rate))
	return &rounded, &left
}
