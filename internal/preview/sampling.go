package preview

import (
	"math"
	"time"

	"github.com/bbm-runner/bbm-runner/internal/work"
)

// Target is how long a sub-batch should take: its row locks last that long, and nobody notices.
const Target = 200 * time.Millisecond

// trustedGrowth is how many times the sampled size may be exceeded by a recommendation: further, the line may bend.
const trustedGrowth = 10

// Sampling is what the samples have cost. Times are in milliseconds. The JSON names are stable: they are added to, never renamed.
type Sampling struct {
	Work             string          `json:"work"`
	Checksum         string          `json:"checksum"`
	Table            string          `json:"table"`
	Arguments        work.Arguments  `json:"arguments"`
	Rows             int64           `json:"rows"` // that a run walks over; an estimate
	BatchSize        int             `json:"batch_size"`
	SubBatchSize     int             `json:"sub_batch_size"` // that was sampled
	LockTimeout      float64         `json:"lock_timeout_ms"`
	StatementTimeout float64         `json:"statement_timeout_ms"`
	Found            string          `json:"found"` // how the places were found
	SubBatches       []SubBatch      `json:"samples"`
	Tried            *Trial          `json:"tried"`          // the recommended size; null where it is the sampled one
	BadRanges        []BadRange      `json:"bad_ranges"`     // what failed on its data, and is not in the samples
	DeadRows         []DeadRows      `json:"dead_rows"`      // what the rollbacks leave in each table
	Recommendation   *Recommendation `json:"recommendation"` // null where nothing was sampled
	Notes            []Warning       `json:"notes"`
}

// SubBatch is one that was executed and rolled back.
type SubBatch struct {
	At            float64  `json:"at"`
	Number        int      `json:"number"` // at its place, from 1
	After         work.Key `json:"after"`
	Until         work.Key `json:"until"`
	ProcessedRows int64    `json:"processed_rows"`
	AffectedRows  int64    `json:"affected_rows"`

	Duration    float64 `json:"duration_ms"` // as the client sees it: the work and its deferred constraints
	Boundary    float64 `json:"boundary_ms"` // of finding its end, which comes on top
	Constraints float64 `json:"constraints_ms"`
	// What the server tells; null for a work in Go.
	Planning  *float64      `json:"planning_ms"`
	Execution *float64      `json:"execution_ms"` // triggers included
	Triggers  []TriggerTime `json:"triggers"`
	Buffers   *Buffers      `json:"buffers"`
	WAL       *WAL          `json:"wal"`

	ServerWAL   int64 `json:"server_wal_bytes"` // what the whole server logged meanwhile: triggers and other sessions too
	UpdatedRows int64 `json:"updated_rows"`     // row versions in the work's table, whoever updated them
	HOTRows     int64 `json:"hot_updated_rows"`
}

// TriggerTime is what a trigger has taken, that of a foreign key too.
type TriggerTime struct {
	Name  string  `json:"name"`
	Table string  `json:"table"`
	Calls int64   `json:"calls"`
	Time  float64 `json:"time_ms"`
}

// Buffers are pages of shared memory that the statement itself touched, without its triggers after rows.
type Buffers struct {
	Hit     int64 `json:"shared_hit"`
	Read    int64 `json:"shared_read"`
	Dirtied int64 `json:"shared_dirtied"`
	Written int64 `json:"shared_written"`
}

// WAL is what the statement itself logged, without its triggers after rows.
type WAL struct {
	Records int64 `json:"records"`
	Images  int64 `json:"full_page_images"`
	Bytes   int64 `json:"bytes"`
}

// Recommendation is drawn from the samples.
type Recommendation struct {
	Target       float64 `json:"target_ms"`
	SubBatchSize int     `json:"sub_batch_size"`  // that takes the target's time at the slowest place
	Seconds      float64 `json:"run_seconds"`     // of the whole run in one slot, by the mean of the places; without commits, progress and pauses
	SubBatches   int64   `json:"run_sub_batches"` // of that size
	WALBytes     *int64  `json:"run_wal_bytes"`   // null for a work in Go
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// read takes over what EXPLAIN ANALYZE tells.
func (one *SubBatch) read(e explained) {
	m := e.Plan.measured
	one.AffectedRows = e.Plan.affected()
	one.Planning, one.Execution = &e.PlanningTime, &e.ExecutionTime
	one.Buffers = &Buffers{m.Hit, m.Read, m.Dirtied, m.Written}
	one.WAL = &WAL{m.WALRecords, m.WALImages, m.WALBytes}
	one.Triggers = []TriggerTime{}
	for _, t := range e.Triggers {
		name := t.Name
		if t.Constraint != "" {
			name = t.Constraint
		}
		one.Triggers = append(one.Triggers, TriggerTime{Name: name, Table: t.Relation, Calls: int64(t.Calls), Time: t.Time})
	}
}

// sums add up sub-batches.
type sums struct {
	rows           int64
	duration, wall float64 // wall: with the boundary query
	wal            int64
}

// perRow is what a row costs, in milliseconds.
func (s *sums) perRow() float64 { return s.duration / float64(s.rows) }

func (s *sums) add(one SubBatch) {
	s.rows += one.ProcessedRows
	s.duration += one.Duration
	s.wall += one.Duration + one.Boundary
	if one.WAL != nil {
		s.wal += one.WAL.Bytes
	}
}

// counted are the sub-batches that stand for a run: at each place those behind the first, which warms what a run finds warm.
func counted(subBatches []SubBatch) map[float64]*sums {
	places := make(map[float64]*sums)
	last := make(map[float64]int)
	for _, one := range subBatches {
		last[one.At] = max(last[one.At], one.Number)
	}
	for _, one := range subBatches {
		if one.Number == 1 && last[one.At] > 1 || one.ProcessedRows == 0 {
			continue
		}
		if places[one.At] == nil {
			places[one.At] = &sums{}
		}
		places[one.At].add(one)
	}
	return places
}

// total adds places up, and tells what a row costs at the slowest, in milliseconds.
func total(places map[float64]*sums) (all sums, slowest float64) {
	for _, place := range places {
		all.rows += place.rows
		all.wall += place.wall
		all.wal += place.wal
		slowest = max(slowest, place.perRow())
	}
	return all, slowest
}

// conclude draws a recommendation from the samples, and notes what they leave out.
func (sr *sampler) conclude(s *Sampling) {
	note := func(code, format string, values ...any) { s.Notes = append(s.Notes, warning(code, format, values...)) }
	all, slowest := total(counted(s.SubBatches))
	if all.rows > 0 {
		size, isCut := recommendedSize(slowest, s.SubBatchSize, s.BatchSize)
		if s.Tried != nil {
			size, all = s.Tried.settle(s.SubBatchSize, s.BatchSize, all)
			isCut = isCut && size == s.Tried.SubBatchSize
			s.Notes = append(s.Notes, s.Tried.notes...)
		}
		s.Recommendation = &Recommendation{
			Target: milliseconds(Target), SubBatchSize: size,
			Seconds: float64(s.Rows) * all.wall / float64(all.rows) / 1000, SubBatches: pieces(s.Rows, size),
		}
		if sr.Work.Do == nil {
			bytes := int64(float64(s.Rows) * float64(all.wal) / float64(all.rows))
			s.Recommendation.WALBytes = &bytes
		}
		if isCut {
			note("extrapolated", "a still larger sub-batch would take less than %s, but is too far from what was sampled: sample again with --sub-batch-size %d", Target, size)
		}
	}
	if sr.Batches > 1 {
		note("first_excluded", "the first sub-batch at each place warms catalogs and index pages for those behind it, and is left out of the recommendation")
	} else {
		note("first_only", "one sub-batch at each place pays for warming catalogs and index pages, which a run does once: --batches 2 tells them apart")
	}
	note("cache", "what was sampled is in the cache now: a second sample of the same places is faster than a run will be")
	note("left_out", "left out of the estimate: the progress that a run writes with each sub-batch, commits (which by default do not wait for the disk), pauses, and waits for others")
	s.DeadRows = sr.dead.list()
	for _, dead := range s.DeadRows {
		note("dead_rows", "the rollbacks leave about %d dead row versions in %s, and their WAL has gone to replicas: VACUUM clears the rows", dead.Rows, dead.Table)
	}
	if sr.Work.Do != nil {
		note("go_work", "the work is written in Go: buffers and WAL are not known, but for what the whole server logged meanwhile")
	}
}

// recommendedSize is how many rows take the target's time, in two digits; isCut tells that trustedGrowth kept it smaller.
func recommendedSize(perRow float64, sampled, batchSize int) (size int, isCut bool) {
	wanted := float64(batchSize)
	if perRow > 0 {
		wanted = min(wanted, milliseconds(Target)/perRow)
	}
	if most := float64(trustedGrowth * sampled); wanted > most {
		wanted, isCut = most, most < float64(batchSize)
	}
	if wanted < 1 {
		return 1, false
	}
	unit := math.Pow(10, max(0, math.Floor(math.Log10(wanted))-1))
	return int(math.Floor(wanted/unit) * unit), isCut
}
