package queries_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	updates = regexp.MustCompile(`(?s)\bUPDATE (bbm\.\w+)(?: AS \w+)?\s+SET\s(.*?)\n\s*(?:FROM|WHERE)\b`)
	grants  = regexp.MustCompile(`(?s)GRANT UPDATE \(([^)]*)\) ON (bbm\.\w+) TO bbm_runner;`)
)

// A column that a query of the runner sets and docs/roles.sql does not grant would stop it; one
// that no query sets is a right too many.
func TestARunnerMayUpdateTheColumnsThatItsQueriesSetAndNoOther(t *testing.T) {
	set := map[string][]string{}
	for _, q := range readQueries(t) {
		if !regexp.MustCompile(`Called by:[^\n]*\brunner\.`).MatchString(q.head) {
			continue
		}
		found := updates.FindAllStringSubmatch(q.body, -1)
		require.Len(t, found, strings.Count(q.body, "UPDATE bbm."), q.name)
		for _, update := range found {
			set[update[1]] = append(set[update[1]], columns(update[2])...)
		}
	}
	roles, err := os.ReadFile("../docs/roles.sql")
	require.NoError(t, err)
	granted := map[string][]string{}
	for _, grant := range grants.FindAllStringSubmatch(string(roles), -1) {
		granted[grant[2]] = strings.Fields(strings.ReplaceAll(grant[1], ",", " "))
	}
	require.Len(t, set, 4)
	for table := range set {
		slices.Sort(set[table])
		set[table] = slices.Compact(set[table])
	}
	assert.Equal(t, set, granted)
}

// columns lists what a SET clause assigns to: the name before the first = of each of its parts.
func columns(clause string) []string {
	var names []string
	depth, start := 0, 0
	for i, c := range clause + "," {
		switch {
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == ',' && depth == 0:
			name, _, _ := strings.Cut(clause[start:i], "=")
			names = append(names, strings.TrimSpace(name))
			start = i + 1
		}
	}
	return names
}
