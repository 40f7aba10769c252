// Package nearest finds what a misspelt word was meant to be.
package nearest

import (
	"strings"

	"github.com/agnivade/levenshtein"
)

// Word returns the candidate that the fewest edits turn word into, or "" where none is near enough to be meant: up to one edit, and one more for
// every four letters.
func Word(word string, candidates []string) string {
	best, bestDistance := "", 2+len(word)/4
	for _, candidate := range candidates {
		if distance := levenshtein.ComputeDistance(strings.ToLower(word), strings.ToLower(candidate)); distance < bestDistance {
			best, bestDistance = candidate, distance
		}
	}
	return best
}
