package runner

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

func pointer(n int32) *int32 { return &n }

// feed lets a sizer see full sub-batches of rows that take so long each.
func feed(s *sizer, perRow time.Duration, times int) {
	for range times {
		rows := int64(s.rows())
		s.observe(rows, time.Duration(rows)*perRow)
	}
}

func TestTheSizeArrivesAtTheTargetDurationAndStays(t *testing.T) {
	s := newSizer(dbgen.Migration{BatchSize: pointer(50_000)})
	assert.Equal(t, work.DefaultSubBatchSize, s.rows())
	feed(s, 10*time.Microsecond, 20)
	assert.InDelta(t, 20_000, s.rows(), 100, "200 ms at 10 microseconds a row")
	feed(s, 10*time.Microsecond, 20)
	assert.InDelta(t, 20_000, s.rows(), 100)
	assert.Equal(t, int32(s.rows()), *s.learned())
}

func TestTheSizeGrowsByAtMostAHalfAtATime(t *testing.T) {
	s := newSizer(dbgen.Migration{BatchSize: pointer(50_000)})
	for range 30 {
		before := s.rows()
		feed(s, time.Nanosecond, 1)
		assert.LessOrEqual(t, s.rows(), before+before/2+1)
	}
	assert.Equal(t, mostRows, s.rows())

	s = newSizer(dbgen.Migration{BatchSize: pointer(5_000)})
	feed(s, time.Nanosecond, 30)
	assert.Equal(t, 5_000, s.rows(), "bounded by the batch size")

	s = newSizer(dbgen.Migration{BatchSize: pointer(50_000), SubBatchSize: pointer(40_000)})
	assert.Equal(t, 40_000, s.rows(), "a fixed size is what was asked for")
}

func TestTheSizeShrinksAtOnceWhenASubBatchTakesOverTwiceTheTarget(t *testing.T) {
	s := newSizer(dbgen.Migration{BatchSize: pointer(50_000), LearnedSubBatchSize: pointer(20_000)})
	assert.True(t, s.observe(20_000, 2*time.Second))
	assert.Equal(t, 2_000, s.rows())
}

func TestTheLastFewRowsOfARangeTellNothing(t *testing.T) {
	s := newSizer(dbgen.Migration{BatchSize: pointer(50_000), LearnedSubBatchSize: pointer(20_000)})
	for range 20 {
		s.observe(1, 5*time.Millisecond)
	}
	assert.Equal(t, 20_000, s.rows())
}

func TestAFixedSizeComesBackAfterALoss(t *testing.T) {
	s := newSizer(dbgen.Migration{BatchSize: pointer(50_000), SubBatchSize: pointer(1_000)})
	feed(s, time.Nanosecond, 20)
	assert.Equal(t, 1_000, s.rows())
	assert.Nil(t, s.learned())
	s.lose()
	s.lose()
	assert.Equal(t, 250, s.rows())
	feed(s, time.Nanosecond, 1)
	assert.Equal(t, 375, s.rows())
	feed(s, time.Nanosecond, 3)
	assert.Equal(t, 1_000, s.rows())
}

func TestALossLeavesAtLeastOneRow(t *testing.T) {
	s := newSizer(dbgen.Migration{BatchSize: pointer(2)})
	assert.Equal(t, 2, s.rows())
	for range 5 {
		s.lose()
	}
	assert.Equal(t, 1, s.rows())
}

func TestTuningIsTakenOverWhileAJobRuns(t *testing.T) {
	s := newSizer(dbgen.Migration{BatchSize: pointer(50_000)})
	s.retune(pointer(70))
	assert.Equal(t, 70, s.rows())
	s.retune(nil)
	feed(s, time.Microsecond, 10)
	assert.Greater(t, s.rows(), 70)
}

func TestTheHighestCostsAreBelievedButForATenth(t *testing.T) {
	assert.InDelta(t, 9, pessimistic([]float64{10, 1, 2, 3, 4, 5, 6, 7, 8, 9}), 0)
	assert.InDelta(t, 3, pessimistic([]float64{3, 1, 2}), 0)
	assert.InDelta(t, 5, pessimistic([]float64{5}), 0)
}
