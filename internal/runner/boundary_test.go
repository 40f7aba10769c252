package runner

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/bbm-runner/bbm-runner/internal/work"
)

func pieces(foundAt time.Time, rows ...int64) endpoints {
	found := endpoints{foundAt: foundAt}
	for i, n := range rows {
		found.ahead = append(found.ahead, endpoint{work.Key{string(rune('a' + i))}, n})
	}
	return found
}

func TestPiecesAreTakenTogetherAsFarAsTheyFit(t *testing.T) {
	ends := pieces(time.Now(), 10, 10, 10, 10, 3, uncounted)
	assert.Equal(t, work.Key{"f"}, ends.last())
	for _, step := range []struct {
		rows int
		want endpoint
	}{{25, endpoint{work.Key{"b"}, 20}}, {9, endpoint{work.Key{"c"}, 10}}, {100, endpoint{work.Key{"e"}, 13}}} {
		assert.True(t, ends.known())
		assert.Equal(t, step.want, ends.next(step.rows))
	}
	assert.False(t, ends.known(), "the rows of the rest are not counted yet")
}

func TestEndsFoundLongAgoAreLookedForAgain(t *testing.T) {
	ends := pieces(time.Now().Add(-endsLive), 10)
	assert.False(t, ends.known())
	ends = endpoints{}
	assert.False(t, ends.known())
}
