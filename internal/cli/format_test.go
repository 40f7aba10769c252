package cli

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestCountPutsCommasBetweenThousands(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{
		0: "0", 7: "7", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1: "-1", -999: "-999", -1000: "-1,000",
		math.MinInt64: "-9,223,372,036,854,775,808",
	} {
		assert.Equal(t, want, count(n))
	}
}

func TestPercentSays100OnlyOfWhatIsDone(t *testing.T) {
	t.Parallel()
	for share, want := range map[float64]string{0: "0.0 %", 0.4526: "45.2 %", 0.99999: "99.9 %", 1: "100.0 %"} {
		assert.Equal(t, want, percent(share))
	}
}

func TestSpanNamesTheTwoLargestUnits(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0s", 1500 * time.Microsecond: "2ms", 1499 * time.Millisecond: "1s", 200 * time.Second: "3m20s",
		125 * time.Minute: "2h05m", 76 * time.Hour: "3d4h", seconds(math.MaxInt64): "106751d23h",
	} {
		assert.Equal(t, want, span(d))
	}
}

func TestPerSecondKeepsAFractionOfSlowRates(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "0.3/s", perSecond(0.25000001))
	assert.Equal(t, "3,400/s", perSecond(3400.4))
}

func TestClipKeepsOneLine(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "a b", clip("a\n  b\t", 10))
	assert.Equal(t, "äö…", clip("äöüß", 3))
}
