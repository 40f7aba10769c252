package preview

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// node is what counts here of a node of EXPLAIN's JSON.
type node struct {
	NodeType     string `json:"Node Type"`
	Operation    string
	Relationship string `json:"Parent Relationship"`
	SubplanName  string `json:"Subplan Name"`
	Schema       string
	Table        string  `json:"Relation Name"`
	IndexName    string  `json:"Index Name"`
	IndexCond    string  `json:"Index Cond"`
	Rows         float64 `json:"Plan Rows"`
	Filter       string
	JoinFilter   string `json:"Join Filter"`

	ActualRows  float64 `json:"Actual Rows"`
	ActualLoops float64 `json:"Actual Loops"`
	measured

	Inserted    *float64 `json:"Tuples Inserted"`
	Updated     float64  `json:"Tuples Updated"`
	Deleted     float64  `json:"Tuples Deleted"`
	Conflicting float64  `json:"Conflicting Tuples"`
	Resolution  string   `json:"Conflict Resolution"`

	Output []string
	Plans  []node
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

// walk visits a node and all below it. perRow is true for what is run again for each row of something else.
func (n node) walk(visit func(n node, perRow bool)) { n.walkFrom(false, visit) }

func (n node) walkFrom(perRow bool, visit func(n node, perRow bool)) {
	visit(n, perRow)
	for _, child := range n.Plans {
		isRepeated := perRow
		switch {
		case child.Relationship == "Inner" && n.NodeType == "Nested Loop", child.Relationship == "SubPlan" && !strings.HasPrefix(child.SubplanName, "CTE "):
			isRepeated = true
		case child.Relationship == "InitPlan":
			isRepeated = false
		}
		if n.keepsInMemory(child) {
			isRepeated = false // it is read once
		}
		child.walkFrom(isRepeated, visit)
	}
}

// keepsInMemory tells whether a child is read once and then looked up, however often it is asked for.
func (n node) keepsInMemory(child node) bool {
	if n.NodeType == "Materialize" || n.NodeType == "Hash" {
		return true
	}
	hashed := "hashed " + child.SubplanName
	return child.SubplanName != "" && slices.ContainsFunc(append(n.Output, n.Filter, n.JoinFilter), func(expression string) bool {
		return strings.Contains(expression, hashed)
	})
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

// explainJSON asks for a plan, or with more options for what a statement has cost.
func explainJSON(ctx context.Context, tx pgx.Tx, prefix, sql string, values []any) (text []byte, e explained, err error) {
	if err := tx.QueryRow(ctx, prefix+sql, values...).Scan(&text); err != nil {
		return nil, e, err
	}
	var all []explained
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, e, fmt.Errorf("read the plan: %w", err)
	}
	if len(all) == 0 {
		return nil, e, errors.New("the server sent no plan: a rule has replaced the statement by nothing")
	}
	return text, all[0], nil
}

// explainText asks for a plan as people read it.
func explainText(ctx context.Context, tx pgx.Tx, prefix, sql string, values []any) (string, error) {
	rows, err := tx.Query(ctx, prefix+sql, values...)
	if err != nil {
		return "", err
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return "", err
	}
	return strings.Join(lines, "\n"), nil
}
