package runner

import (
	"math"
	"slices"

	"github.com/bbm-runner/bbm-runner/internal/work"
)

const (
	dearer = work.ClearlyDearer
	// alike is by how much the cost of a row may rise without that a size is less good: the fixed
	// costs of a sub-batch hide as much.
	alike = 1.1
	// A size that was given up is left alone for firstRest sub-batches, and twice as long each time
	// that it proves no better, up to longestRest: then trying it costs less than a hundredth, and
	// what has become better, as by ANALYZE, is still found.
	firstRest   = 100
	longestRest = 3_200
	// evidence is how many sub-batches say what a row costs, by their median: one that met a
	// checkpoint or a cold page does not count.
	evidence = 3
)

// climb keeps a size from growing to where a row costs more, as when PostgreSQL reads another table
// whole from some size on. A place where rows cost more looks the same, so a size that was given up
// is only avoided where a row costs less again at the size before.
type climb struct {
	size, cost float64   // the largest size at which a row cost about the least, in seconds; 0: nothing is known
	recent     []float64 // what a row cost in the last sub-batches
	wasAbove   bool      // these were larger than size
	isAvoided  bool      // whatever is above size
	suspected  float64   // what a row cost where it was given up, until it is known whether that was the place; 0: nothing is suspected
	rest, next int       // sub-batches until it is tried again; how long the next rest is
}

// most is the largest size that may be tried.
func (c *climb) most() float64 {
	if c.isAvoided {
		return c.size
	}
	return math.Inf(1)
}

// isProved tells whether enough has been seen of the present size to start from it another time.
func (c *climb) isProved() bool { return !c.wasAbove || c.size < 1 || len(c.recent) >= evidence }

// observe learns what a row has cost in a sub-batch of that size. It reports whether the size is
// given up.
func (c *climb) observe(size, perRow float64) (givenUp bool) {
	if c.rest > 0 {
		c.rest--
		c.isAvoided = c.rest > 0
	}
	if isAbove := size > c.size; isAbove != c.wasAbove {
		c.wasAbove, c.recent = isAbove, nil // what is seen there is about sizes there alone
	}
	c.recent = append(c.recent, perRow)
	c.recent = c.recent[max(0, len(c.recent)-evidence):]
	cost, isKnown := c.median()
	if !isKnown {
		return false
	}
	switch {
	case c.suspected > 0:
		c.isAvoided = c.suspected > dearer*cost
		if c.isAvoided {
			c.rest, c.next = max(firstRest, c.next), min(longestRest, 2*max(firstRest, c.next))
		} else {
			c.next = 0 // it was the place
		}
		c.cost, c.suspected = cost, 0
	case size > c.size && c.cost > 0 && cost > dearer*c.cost:
		c.isAvoided, c.suspected, c.recent = true, cost, nil
		return true
	case c.cost == 0, size <= c.size && cost > dearer*c.cost:
		c.size, c.cost = size, cost
	case cost <= alike*c.cost && perRow <= dearer*c.cost:
		c.size, c.cost = max(c.size, size), min(c.cost, cost)
	}
	return false
}

// median is what a row has cost of late. It is known before all evidence is there where the rest
// cannot bring it below what is clearly more.
func (c *climb) median() (cost float64, isKnown bool) {
	sorted := slices.Sorted(slices.Values(c.recent))
	if len(sorted) < evidence {
		isDear := c.wasAbove && c.cost > 0 && sorted[0] > dearer*c.cost
		return sorted[0], isDear && len(sorted) > evidence/2
	}
	return sorted[evidence/2], true
}
