package preview

import (
	"context"
	"encoding/json"

	"github.com/bbm-runner/bbm-runner/internal/work"
)

// SizePlan is the statement's plan for another size of sub-batches than the one that is shown.
type SizePlan struct {
	SubBatchSize int             `json:"sub_batch_size"`
	Rows         int64           `json:"rows"`       // of the range that was planned for: fewer where the table has fewer
	ReadsMore    []string        `json:"reads_more"` // the tables that it reads whole, and the plan of the smallest size does not
	Plan         json.RawMessage `json:"plan"`
	PlanText     string          `json:"plan_text"`
}

// planSizes plans the statement for the smallest and the largest size that a run may choose:
// PostgreSQL plans by the rows that it expects, so what is cheap for few of them may be another
// plan for many.
func (st *stage) planSizes(ctx context.Context, e *Explanation) error {
	until, err := st.lastKey(ctx)
	if err != nil {
		return err
	}
	sizes := []int{1, min(work.LargestSubBatchSize, e.BatchSize)}
	found, err := st.places(ctx, until, []float64{0.5}, sizes[1])
	if err != nil {
		return err
	}
	var smallest []work.Read
	for i, size := range sizes {
		r := work.Range{After: found[0].after, Until: until}
		end, rows, err := st.boundary(ctx, r, size)
		if err != nil || end == nil {
			return err
		}
		r.Until = end
		sql, values, err := st.statements.Work(r, st.Arguments)
		if err != nil {
			return err
		}
		planned, plan, err := plannedStatement(ctx, st.tx, sql, values)
		if err != nil {
			return st.Work.Blame(err, sql, len(jsonPlan), "plan the statement")
		}
		reads, err := work.FindReads(ctx, st.tx, plan)
		if err != nil {
			return err
		}
		one := SizePlan{SubBatchSize: size, Rows: rows, ReadsMore: []string{}, Plan: planned.Plan, PlanText: planned.PlanText}
		if i == 0 {
			smallest = reads
		} else {
			for _, read := range work.ReadByLarger(smallest, reads, st.target) {
				one.ReadsMore = append(one.ReadsMore, read.Table())
				st.add(read.WarningOfLarger(e.Sizes[0].Rows, rows))
			}
		}
		e.Sizes = append(e.Sizes, one)
	}
	return nil
}
