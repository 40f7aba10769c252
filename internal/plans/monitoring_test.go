package plans_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/plans"
)

var sqlBlock = regexp.MustCompile("(?s)```sql\n(.*?)```")

// allowed is what is small all the same.
var allowed = []plans.Violation{
	{Rule: plans.NoCondition, Object: "batched_background_migration_jobs_running_slot_idx"},             // the running jobs alone
	{Rule: plans.UnprunedLog, Object: "batched_background_migration_job_transition_logs_exception_idx"}, // exceptions since a time
	{Rule: plans.FullScan, Object: "batched_background_migration_job_transition_logs_default"},          // empty, where months are made
	{Rule: plans.NoCondition, Object: "batched_background_migration_transition_logs_pkey"},              // the newest: a LIMIT ends it
}

// What DBAs are told to run each minute may scan no more than what a runner sends.
func TestTheMonitoringQueriesOfTheDocumentationReadNoWholeTable(t *testing.T) {
	t.Parallel()
	conn, _ := setup(t)
	catalog, err := plans.ReadCatalog(t.Context(), conn)
	require.NoError(t, err)
	page, err := os.ReadFile(filepath.Join(root, "docs", "operations.md"))
	require.NoError(t, err)
	_, section, found := strings.Cut(string(page), "\n## Monitoring\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	blocks := sqlBlock.FindAllStringSubmatch(section, -1)
	require.NotEmpty(t, blocks)
	for i, block := range blocks {
		q := plans.Query{Name: fmt.Sprintf("monitoring_%d", i+1), Text: block[1]}
		tree, err := plans.ExplainTree(t.Context(), conn, q)
		require.NoError(t, err, block[1])
		for _, v := range plans.Judge(q, tree, catalog) {
			v.Query = ""
			assert.Contains(t, allowed, v, block[1])
		}
	}
}
