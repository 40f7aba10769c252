package plans

import "fmt"

// Scale is how much a seeded database holds. Nine in ten jobs belong to one migration, and each job has three log rows.
type Scale struct {
	// Target is how finely ANALYZE looks at jobs and logs: it samples 300 rows for each point. Default 100, PostgreSQL's own.
	Target     int
	Migrations int // all that there are
	Spread     int // how many migrations share the tenth of the jobs that the heavy one leaves
	Jobs       int
}

// Large is what the committed plans are made at: 10 million jobs, of which one migration holds 9 million, and 30 million
// log rows over six months. Loading takes minutes and about 9 GB, once.
var Large = Scale{Migrations: 10_000, Spread: 9_999, Jobs: 10_000_000}

// Small yields the same plans and loads in seconds. What decides is the number of jobs of an average migration, as
// ANALYZE sees it: of Large it samples 30,000 rows, and takes the 9,999 small migrations for about a quarter of that.
//
// It is analyzed whole: a sample that happens to meet the one running job would expect seven.
var Small = Scale{Target: 1000, Migrations: 10_000, Spread: 200, Jobs: 200_000}

// HeavyName returns the name of the migration with nine in ten of the jobs.
func HeavyName(s Scale) string { return fmt.Sprintf("migration_%d", s.heavy()) }

// heavy is the id of the migration with nine in ten of the jobs; it is running.
func (s Scale) heavy() int { return s.Migrations / 2 }

// unsucceededEvery is how many jobs there are to one that waits, as after a bad night.
const unsucceededEvery = 2000

// The history fills these months; the plans name its partitions, so they stay the same whatever the date.
const (
	firstMonth = "2001-01-01"
	months     = 6
)
