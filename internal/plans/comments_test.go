package plans_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/plans"
)

var identifier = regexp.MustCompile(`[a-z][a-z0-9_]*`)

// small are the tables of a row or a few, which are read whole whatever index they have.
var small = []string{
	"fleet_settings", "goose_db_version", "batched_background_migration_quarantined_rows", "batched_background_migration_job_transition_logs_default",
}

// What stands behind "Index:" is what a reviewer believes. "all of TABLE" says that a table is read
// whole. What stands behind "not in the plan:" is the cascade of a foreign key, or the inside of a
// function. The system's catalog has another size in each database, so its indexes are not held to
// it.
func TestEveryQueryNamesTheIndexesOfItsPlan(t *testing.T) {
	t.Parallel()
	conn, queries := setup(t)
	if version := major(t, conn); version != plans.Major {
		t.Skipf("the comments speak of the committed plans, which are of PostgreSQL %d", plans.Major)
	}
	catalog, err := plans.ReadCatalog(t.Context(), conn)
	require.NoError(t, err)
	ours := make(map[string]bool)
	for _, index := range catalog {
		ours[index.Table] = ours[index.Table] || index.IsOurs()
	}
	for _, q := range queries {
		ofPlan, _, _ := strings.Cut(q.Indexes, "not in the plan:")
		named := slices.DeleteFunc(identifier.FindAllString(ofPlan, -1), func(word string) bool { return !catalog[word].IsOurs() })
		generic, err := plans.ExplainTree(t.Context(), conn, q)
		require.NoError(t, err)
		heavy, err := plans.ExplainHeavy(t.Context(), conn, q)
		require.NoError(t, err)

		used, readWhole := []string{}, []string{}
		for n := range generic.All() {
			if index := catalog[n.Index]; index.IsOurs() {
				used = append(used, catalog.NameOf(n.Index))
				assert.Contains(t, named, catalog.NameOf(n.Index), "%s: its plan uses this index, and its comment says: %s", q.Name, q.Indexes)
			}
			if n.NodeType == "Seq Scan" && ours[n.Relation] {
				readWhole = append(readWhole, n.Relation)
				if !slices.Contains(small, n.Relation) {
					assert.Contains(t, ofPlan, "all of "+n.Relation, "%s: its plan reads this table whole", q.Name)
				}
			}
		}
		for n := range heavy.All() {
			used = append(used, catalog.NameOf(n.Index))
		}
		for _, name := range named {
			if !slices.Contains(readWhole, catalog[name].Table) {
				assert.Contains(t, used, name, "%s: no plan of it uses this index, which its comment names", q.Name)
			}
		}
	}
}
