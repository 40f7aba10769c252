package runner

import (
	"math"
	"slices"
	"time"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

const (
	// targetDuration is how long a sub-batch should take: long enough for its fixed costs to vanish, short enough for those who wait for one of its
	// rows not to notice. GitLab and spirit aim at 500 ms and more; they hold their locks for it.
	targetDuration = 200 * time.Millisecond
	// mostRows bounds a size that is chosen here. Beyond it nothing is gained, a sub-batch's fixed costs being below 1 % of the work even where a row takes
	// 1 µs; and much is lost: asynchronous commits let PostgreSQL's WAL writer write beside the work, where a transaction of 50,000 rows fills the WAL
	// buffers and has to write itself. Measured on a plain UPDATE: 2.72 s a million rows in transactions of 20,000, 2.90 s in those of 50,000.
	mostRows = work.LargestSubBatchSize
	// growth is the most by which a size grows from one sub-batch to the next, as in spirit's chunker: a table's rows differ from place to place.
	growth = 1.5
	// A sub-batch above shrinkAt times the target shrinks the size at once, by what it took alone.
	shrinkAt = 2
	// recentSamples are looked at, and of their cost per row the pessimisticShare highest is believed. Spirit waits for ten samples before each
	// step, which its users find slow; here each sub-batch is a step as soon as there are fewestSamples.
	recentSamples    = 10
	fewestSamples    = 3
	pessimisticShare = 0.9
	// A sub-batch of less than fullShare of the size asked for tells nothing: its fixed costs outweigh its rows. So a sparse range, which GitLab's optimizer
	// takes for speed and grows on without end, does not grow a size either: rows are counted as they are walked, not as they are changed.
	fullShare = 0.5
)

// sizer chooses the number of rows of the next sub-batch: the size that somebody has fixed, or one that aims at [targetDuration]. Both give way when
// a sub-batch loses to others, and come back step by step.
type sizer struct {
	size    float64
	most    float64
	fixed   float64   // 0: chosen here
	samples []float64 // seconds per row of recent full sub-batches, oldest first
	climb   *climb
}

func newSizer(m dbgen.Migration) *sizer {
	s := &sizer{most: work.DefaultBatchSize, size: work.DefaultSubBatchSize, climb: &climb{}}
	if m.BatchSize != nil {
		s.most = float64(*m.BatchSize)
	}
	if m.LearnedSubBatchSize != nil {
		s.size = float64(*m.LearnedSubBatchSize)
	}
	s.size = min(s.size, s.most, mostRows)
	s.retune(m.SubBatchSize)
	s.size = max(s.size, s.fixed)
	return s
}

// rows is the size of the next sub-batch: at least one, at most a batch.
func (s *sizer) rows() int { return max(1, int(s.size)) }

// learned is the size to start from next time; nil while a size is fixed.
func (s *sizer) learned() *int32 {
	if s.fixed > 0 {
		return nil
	}
	size := s.rows()
	if !s.climb.isProved() {
		size = min(size, int(s.climb.size))
	}
	learned := int32(size)
	return &learned
}

// retune takes over what the migration says now: a fixed size, or nil. It reports whether that is another size.
func (s *sizer) retune(fixed *int32) (changed bool) {
	was := s.fixed
	switch {
	case fixed == nil:
		s.fixed = 0
	case s.fixed != float64(*fixed):
		s.fixed = min(float64(*fixed), s.most)
		s.size = s.fixed
	}
	return s.fixed != was
}

// observe learns from a sub-batch that has been committed. It reports whether the size has shrunk, so that an endpoint looked up for the old one is
// too far away.
func (s *sizer) observe(rows int64, took time.Duration) (shrunk bool) {
	if s.fixed > 0 {
		s.size = min(s.size*growth, s.fixed)
		return false
	}
	if rows < int64(s.size*fullShare) && took < targetDuration {
		return false
	}
	perRow := took.Seconds() / float64(max(1, rows))
	if took > shrinkAt*targetDuration {
		s.samples = []float64{perRow}
		s.size = min(s.size, max(1, targetDuration.Seconds()/perRow))
		return true
	}
	givenUp := s.climb.observe(float64(rows), perRow)
	if givenUp {
		s.samples = nil
	}
	s.samples = append(s.samples, perRow)
	if len(s.samples) > recentSamples {
		s.samples = s.samples[1:]
	}
	wanted := s.size
	if len(s.samples) >= fewestSamples {
		wanted = min(targetDuration.Seconds()/pessimistic(s.samples), s.size*growth)
	}
	s.size = max(1, min(wanted, s.most, mostRows, s.climb.most()))
	return givenUp
}

// lose makes way after a sub-batch that lost to others or took too long.
func (s *sizer) lose() {
	s.size = max(1, s.size/2)
	s.samples = nil
}

// pessimistic is the percentile of pessimisticShare: the smallest value that at least this share of the values do not exceed.
func pessimistic(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[int(math.Ceil(pessimisticShare*float64(len(sorted))))-1]
}
