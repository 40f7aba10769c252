package plans_test

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/plans"
)

var catalog = plans.Catalog{
	"batched_background_migration_jobs_pkey":          {Leading: "id", IsKey: true},
	"batched_background_migration_jobs_migration_idx": {Leading: "batched_background_migration_id"},
	"batched_background_migration_jobs_waiting_idx":   {Leading: "batched_background_migration_id", IsPartial: true},
	"part_idx5": {Leading: "batched_background_migration_job_id", Parent: "log_job_idx"},
}

func TestARuleIsBrokenHoweverDeepInThePlan(t *testing.T) {
	t.Parallel()
	const (
		jobs = `"Relation Name": "batched_background_migration_jobs"`
		july = `"Relation Name": "batched_background_migration_job_transition_logs_2001_07"`
		pkey = `"Index Name": "batched_background_migration_jobs_pkey", "Index Cond": "(id = $1)"`
		wide = `"Index Name": "batched_background_migration_jobs_migration_idx", "Index Cond": "(batched_background_migration_id = $1)"`
	)
	for name, c := range map[string]struct {
		plan   string
		broken []plans.Rule
	}{
		"a job by its id":                   {`{"Node Type": "Index Scan", ` + jobs + `, ` + pkey + `}`, nil},
		"all jobs":                          {`{"Node Type": "Seq Scan", ` + jobs + `}`, []plans.Rule{plans.FullScan}},
		"all jobs in a subplan":             {`{"Node Type": "Result", "Plans": [{"Node Type": "Seq Scan", "Parent Relationship": "SubPlan", ` + jobs + `}]}`, []plans.Rule{plans.FullScan}},
		"all of a month":                    {`{"Node Type": "Append", "Plans": [{"Node Type": "Seq Scan", ` + july + `}]}`, []plans.Rule{plans.FullScan}},
		"another table":                     {`{"Node Type": "Seq Scan", "Relation Name": "fleet_settings"}`, nil},
		"a whole index":                     {`{"Node Type": "Index Scan", ` + jobs + `, "Index Name": "batched_background_migration_jobs_waiting_idx"}`, []plans.Rule{plans.NoCondition}},
		"an index not by its first column":  {`{"Node Type": "Index Scan", ` + jobs + `, "Index Name": "batched_background_migration_jobs_waiting_idx", "Index Cond": "(status = 'failed')"}`, []plans.Rule{plans.NoCondition}},
		"a bitmap of a whole index":         {`{"Node Type": "Bitmap Heap Scan", ` + jobs + `, "Plans": [{"Node Type": "Bitmap Index Scan", "Index Name": "batched_background_migration_jobs_waiting_idx"}]}`, []plans.Rule{plans.NoCondition}},
		"a month by the job":                {`{"Node Type": "Index Scan", ` + july + `, "Index Name": "part_idx5", "Index Cond": "(batched_background_migration_job_id = j.id)"}`, nil},
		"all jobs of a migration":           {`{"Node Type": "Aggregate", "Plans": [{"Node Type": "Index Scan", ` + jobs + `, ` + wide + `}]}`, []plans.Rule{plans.WholeMigration}},
		"a page of them":                    {`{"Node Type": "Limit", "Plans": [{"Node Type": "Index Scan", ` + jobs + `, ` + wide + `}]}`, nil},
		"a page of them, sorted":            {`{"Node Type": "Limit", "Plans": [{"Node Type": "Sort", "Plans": [{"Node Type": "Index Scan", ` + jobs + `, ` + wide + `}]}]}`, []plans.Rule{plans.UnboundedSort, plans.WholeMigration}},
		"a bitmap of them":                  {`{"Node Type": "Bitmap Heap Scan", ` + jobs + `, "Plans": [{"Node Type": "Bitmap Index Scan", ` + wide + `}]}`, []plans.Rule{plans.WholeMigration}},
		"a sort of one row":                 {`{"Node Type": "Sort", "Plans": [{"Node Type": "Index Scan", ` + jobs + `, ` + pkey + `}]}`, nil},
		"a sort of a list":                  {`{"Node Type": "Sort", "Plans": [{"Node Type": "Function Scan"}]}`, []plans.Rule{plans.UnboundedSort}},
		"a sort of what a CTE has, one row": {`{"Node Type": "Sort", "Plans": [{"Node Type": "ModifyTable", "Parent Relationship": "InitPlan", "Subplan Name": "CTE a", "Plans": [{"Node Type": "Index Scan", ` + jobs + `, ` + pkey + `}]}, {"Node Type": "CTE Scan", "Parent Relationship": "Outer", "CTE Name": "a"}]}`, nil},
		"a sort of what a CTE has":          {`{"Node Type": "Sort", "Plans": [{"Node Type": "Function Scan", "Parent Relationship": "InitPlan", "Subplan Name": "CTE a"}, {"Node Type": "CTE Scan", "Parent Relationship": "Outer", "CTE Name": "a"}]}`, []plans.Rule{plans.UnboundedSort}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plan := new(plans.Node)
			require.NoError(t, json.Unmarshal([]byte(c.plan), plan))
			var broken []plans.Rule
			for _, v := range plans.Judge(plans.Query{Name: "Query", Callers: "runner.(*Executor).step."}, plan, catalog) {
				broken = append(broken, v.Rule)
			}
			assert.Equal(t, c.broken, broken)
		})
	}
}

func TestEveryExceptionSaysWhy(t *testing.T) {
	t.Parallel()
	for _, e := range plans.Exceptions {
		assert.NotEmpty(t, e.Reason, e.String())
	}
}

func TestAnIndexOfAMonthStandsUnderTheNameOfTheLogs(t *testing.T) {
	t.Parallel()
	plan := "Append\n  ->  Index Scan using part_idx5 on logs_2001_07 l\n        Index Cond: (id = 1)\n"
	assert.Equal(t, "Append\n  ->  Index Scan using log_job_idx on logs_2001_07 l\n        Index Cond: (id = 1)\n", catalog.NameParents(plan))
}

func TestNoPlanOfAQueryThatIsGoneStays(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, plans.WriteFiles(dir, map[string]string{"Old.txt": "a", "Kept.txt": "b"}))
	present := map[string]string{"Kept.txt": "c", "New.txt": "d"}
	require.NoError(t, plans.WriteFiles(dir, present))
	written, err := plans.ReadFiles(dir)
	require.NoError(t, err)
	assert.Equal(t, present, written)
	assert.Equal(t, []string{"Kept.txt", "New.txt", "Old.txt"}, plans.Differences(present, map[string]string{"Kept.txt": "b", "Old.txt": "a"}))
}

func TestTheDocumentListsTheExceptions(t *testing.T) {
	t.Parallel()
	document, err := os.ReadFile(root + "/docs/queries.md")
	require.NoError(t, err)
	for _, e := range plans.Exceptions {
		assert.Contains(t, string(document), fmt.Sprintf("| `%s` | %s | %s |\n", e.Query, e.Rule, e.Reason))
	}
}
