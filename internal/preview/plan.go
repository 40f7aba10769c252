package preview

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/work"
)

// node is what counts here of a node of EXPLAIN (ANALYZE): what it has done and cost. What is
// planned is read by [work.ReadPlans].
type node struct {
	NodeType     string `json:"Node Type"`
	Operation    string
	Relationship string  `json:"Parent Relationship"`
	ActualRows   float64 `json:"Actual Rows"`
	ActualLoops  float64 `json:"Actual Loops"`
	measured

	Inserted    *float64 `json:"Tuples Inserted"`
	Updated     float64  `json:"Tuples Updated"`
	Deleted     float64  `json:"Tuples Deleted"`
	Conflicting float64  `json:"Conflicting Tuples"`
	Resolution  string   `json:"Conflict Resolution"`

	Plans []node
}

// measured is what a node has cost, with those below it.
type measured struct {
	Hit        int64 `json:"Shared Hit Blocks"`
	Read       int64 `json:"Shared Read Blocks"`
	Dirtied    int64 `json:"Shared Dirtied Blocks"`
	Written    int64 `json:"Shared Written Blocks"`
	WALRecords int64 `json:"WAL Records"`
	WALImages  int64 `json:"WAL FPI"`
	WALBytes   int64 `json:"WAL Bytes"`
}

// explained is one element of EXPLAIN's JSON.
type explained struct {
	Plan          node
	PlanningTime  float64 `json:"Planning Time"`
	ExecutionTime float64 `json:"Execution Time"`
	Triggers      []struct {
		Name       string `json:"Trigger Name"`
		Constraint string `json:"Constraint Name"`
		Relation   string
		Time       float64
		Calls      float64
	}
}

// affected is the row count of the command's tag, which EXPLAIN does not return.
func (n node) affected() int64 {
	switch {
	case n.NodeType != "ModifyTable" || n.ActualRows > 0: // rows that are returned, as by RETURNING
		return int64(n.ActualRows * n.ActualLoops)
	case n.Operation == "Merge":
		inserted := 0.0
		if n.Inserted != nil {
			inserted = *n.Inserted
		}
		return int64(inserted + n.Updated + n.Deleted)
	case n.Operation == "Insert" && n.Inserted != nil: // ON CONFLICT
		if n.Resolution == "UPDATE" {
			return int64(*n.Inserted + n.Conflicting)
		}
		return int64(*n.Inserted)
	}
	rows := 0.0
	for _, child := range n.Plans {
		if child.Relationship == "Outer" || child.Relationship == "Member" {
			rows += child.ActualRows * child.ActualLoops
		}
	}
	return int64(rows)
}

// explainJSON asks what a statement has cost.
func explainJSON(ctx context.Context, tx pgx.Tx, sql string, values []any) (e explained, err error) {
	var text []byte
	if err := tx.QueryRow(ctx, costs+sql, values...).Scan(&text); err != nil {
		return e, err
	}
	var all []explained
	if err := json.Unmarshal(text, &all); err != nil {
		return e, fmt.Errorf("read the plan: %w", err)
	}
	if len(all) == 0 {
		return e, errNoPlan
	}
	return all[0], nil
}

// errNoPlan is returned for a statement that does nothing.
var errNoPlan = errors.New("the server sent no plan: a rule has replaced the statement by nothing")

// explainPlan asks for a plan.
func explainPlan(ctx context.Context, tx pgx.Tx, sql string, values []any) (text []byte, plan work.PlanNode, err error) {
	if err := tx.QueryRow(ctx, jsonPlan+sql, values...).Scan(&text); err != nil {
		return nil, plan, err
	}
	plans, err := work.ReadPlans(text)
	if err == nil && len(plans) == 0 {
		err = errNoPlan
	}
	if err != nil {
		return nil, plan, err
	}
	return text, plans[0], nil
}

// explainText asks for a plan as people read it.
func explainText(ctx context.Context, tx pgx.Tx, sql string, values []any) (string, error) {
	rows, err := tx.Query(ctx, textPlan+sql, values...)
	if err != nil {
		return "", err
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return "", err
	}
	return strings.Join(lines, "\n"), nil
}
