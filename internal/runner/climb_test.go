package runner

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// simulate walks a sizer over a table of that many rows, where a row at a place costs that much in
// a sub-batch of a size. It returns the sizes and what all has cost.
func simulate(s *sizer, rows int, perRow func(at, size int) time.Duration) (sizes []int, total time.Duration) {
	for at := 0; at < rows; {
		size := s.rows()
		took := 2*time.Millisecond + time.Duration(size)*perRow(at, size)
		s.observe(int64(size), took)
		sizes = append(sizes, size)
		at, total = at+size, total+took
	}
	return sizes, total
}

func newAutoSizer() *sizer { return newSizer(dbgen.Migration{BatchSize: pointer(50_000)}) }

// share is that of the sizes for which a condition holds.
func share(sizes []int, is func(int) bool) float64 {
	n := 0
	for _, size := range sizes {
		if is(size) {
			n++
		}
	}
	return float64(n) / float64(len(sizes))
}

// worsePlan is that of a statement that reads another table whole, in 80 ms, from 4,000 rows on.
func worsePlan(_, size int) time.Duration {
	if size >= 4_000 {
		return 5*time.Microsecond + 80*time.Millisecond/time.Duration(size)
	}
	return 5 * time.Microsecond
}

func TestASizeWhoseRowsCostMoreIsGivenUpAndNotTriedAgainSoon(t *testing.T) {
	s := newAutoSizer()
	sizes, total := simulate(s, 2_000_000, worsePlan)
	fixed := newSizer(dbgen.Migration{BatchSize: pointer(50_000), SubBatchSize: pointer(3_000)})
	_, best := simulate(fixed, 2_000_000, worsePlan)
	assert.Less(t, total.Seconds()/best.Seconds(), 1.15)
	assert.Less(t, share(sizes, func(size int) bool { return size >= 4_000 }), 0.03)
	assert.Less(t, s.rows(), 4_000)
	assert.Less(t, int(*s.learned()), 4_000)
}

func TestAWorseSizeIsTriedAgainLater(t *testing.T) {
	s := newAutoSizer()
	simulate(s, 1_000_000, worsePlan)
	simulate(s, 4_000_000, func(int, int) time.Duration { return 5 * time.Microsecond })
	assert.Greater(t, s.rows(), 15_000, "the plan is mended, by ANALYZE or an index")
}

func TestRowsThatCostMoreAndMoreInALargerSubBatchKeepItSmall(t *testing.T) {
	s := newAutoSizer()
	sizes, _ := simulate(s, 1_000_000, func(_, size int) time.Duration {
		return 2*time.Microsecond + time.Duration(size)*time.Nanosecond
	})
	assert.Greater(t, share(sizes, func(size int) bool { return size < 8_000 }), 0.9)
}

func TestNoiseDoesNotMakeTheSizeFlap(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		s := newAutoSizer()
		simulate(s, 300_000, func(int, int) time.Duration { return 8 * time.Microsecond })
		sizes, _ := simulate(s, 3_000_000, func(int, int) time.Duration {
			cost := 6e-6 * (1 + random.ExpFloat64()*0.3)
			if random.IntN(20) == 0 {
				cost *= 4 // a checkpoint
			}
			return time.Duration(cost * float64(time.Second))
		})
		assert.Greater(t, share(sizes, func(size int) bool { return size >= 5_000 }), 0.85, "seed %d: %v", seed, sizes)
	}
}

func TestAPlaceWhereRowsCostMoreIsNotTakenForTheSize(t *testing.T) {
	s := newAutoSizer()
	sizes, _ := simulate(s, 6_000_000, func(at, _ int) time.Duration {
		if at/500_000%2 == 1 {
			return 9 * time.Microsecond // wide rows, or cold ones
		}
		return 3 * time.Microsecond
	})
	assert.Greater(t, share(sizes, func(size int) bool { return size >= 10_000 }), 0.7, "%v", sizes)

	s = newAutoSizer()
	simulate(s, 1_000_000, func(at, _ int) time.Duration { return time.Microsecond * time.Duration(2+at/100_000) })
	assert.Greater(t, s.rows(), 10_000, "a table that becomes dearer from end to end")
}

func TestWarmingCachesDoNotKeepTheSizeSmall(t *testing.T) {
	s := newAutoSizer()
	simulate(s, 1_000_000, func(at, _ int) time.Duration {
		return 4*time.Microsecond + 40*time.Microsecond*time.Duration(max(0, 20_000-at))/20_000
	})
	assert.Greater(t, s.rows(), 15_000)
}
