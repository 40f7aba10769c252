package preview

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestTheRecommendedSizeTakesTheTargetsTime(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		perRow             float64 // milliseconds
		sampled, batchSize int
		want               int
		isCut              bool
	}{
		{0.1, 1000, 50_000, 2000, false},
		{0.0613, 1000, 50_000, 3200, false}, // 3,262
		{0.001, 1000, 50_000, 10_000, true},
		{0.001, 10_000, 50_000, 50_000, false},
		{0.001, 5000, 50_000, 50_000, false}, // ten times is the job
		{10, 1000, 50_000, 20, false},
		{15, 1000, 50_000, 13, false},
		{150, 1000, 50_000, 1, false},
		{1000, 1000, 50_000, 1, false},
		{0, 10, 50_000, 100, true},
		{0.1, 1000, 1234, 1200, false},
	} {
		size, isCut := recommendedSize(c.perRow, c.sampled, c.batchSize)
		assert.Equal(t, c.want, size, c)
		assert.Equal(t, c.isCut, isCut, c)
	}
}

func TestTheFirstAtAPlaceIsLeftOutWhereOthersFollow(t *testing.T) {
	t.Parallel()
	counted := counted([]SubBatch{
		{At: 0, Number: 1, ProcessedRows: 10, Duration: 100},
		{At: 0, Number: 2, ProcessedRows: 10, Duration: 20, Boundary: 1},
		{At: 1, Number: 1, ProcessedRows: 5, Duration: 30},
	})
	assert.Equal(t, sums{rows: 10, duration: 20, wall: 21}, *counted[0])
	assert.Equal(t, sums{rows: 5, duration: 30, wall: 30}, *counted[1])
}
