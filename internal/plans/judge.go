package plans

import (
	"fmt"
	"regexp"
	"strings"
)

// Rule is what no plan may break but for an [Exception].
type Rule string

// The rules hold on every version of PostgreSQL.
const (
	// FullScan: jobs and logs are never read from end to end, however deep in the plan.
	FullScan Rule = "full scan"
	// NoCondition: an index is entered at a place, by its first column; else it is a full scan by another name.
	NoCondition Rule = "index without a condition"
	// UnboundedSort: what runs in the cycle sorts nothing whose size grows with the history.
	UnboundedSort Rule = "unbounded sort"
	// UnprunedLog: the log is reached by the id of a job.
	UnprunedLog Rule = "log not reached by job"
	// WholeMigration: nothing reads all jobs of a migration, of which there may be millions: partial indexes hold those that matter.
	WholeMigration Rule = "all jobs of a migration"
)

// Violation is one place where a plan breaks a rule.
type Violation struct {
	Query  string
	Rule   Rule
	Object string // the table or index scanned; the CTE or query sorted in
}

func (v Violation) String() string { return fmt.Sprintf("%s: %s: %s", v.Query, v.Rule, v.Object) }

// Judge returns where the plan breaks a rule.
func Judge(q Query, plan *Node, catalog Catalog) []Violation {
	j := judge{query: q, catalog: catalog, ctes: make(map[string]*Node)}
	for n := range plan.All() {
		if name, isCTE := strings.CutPrefix(n.Subplan, "CTE "); isCTE {
			j.ctes[name] = n
		}
	}
	j.visit(plan, place{})
	return j.violations
}

type judge struct {
	query      Query
	catalog    Catalog
	ctes       map[string]*Node
	violations []Violation
}

// place is what the nodes above say about one.
type place struct {
	cte     string
	limited bool // a LIMIT ends it before its last row
}

func (j *judge) visit(n *Node, at place) {
	if n.Role == "InitPlan" || n.Role == "SubPlan" {
		at.limited = false
	}
	if name, isCTE := strings.CutPrefix(n.Subplan, "CTE "); isCTE {
		at.cte = name
	}
	switch n.NodeType {
	case "Seq Scan", "Sample Scan", "Tid Range Scan":
		if isJobs(n.Relation) || isLogs(n.Relation) {
			j.add(FullScan, n.Relation)
		}
	case "Index Scan", "Index Only Scan", "Bitmap Index Scan":
		j.visitIndex(n, at)
	case "Limit":
		at.limited = true
	case "Sort":
		if j.query.IsCycle() && !j.inputsAreBounded(n) {
			j.add(UnboundedSort, at.cte)
		}
		at.limited = false
	case "Aggregate", "Hash":
		at.limited = false
	}
	for _, child := range n.Plans {
		j.visit(child, at)
	}
}

func (j *judge) visitIndex(n *Node, at place) {
	index := j.catalog[n.Index]
	name := n.Index
	if index.Parent != "" {
		name = index.Parent
	}
	if !mentions(n.IndexCond, index.Leading) {
		j.add(NoCondition, name)
	}
	if isLogs(n.Relation) && !mentions(n.IndexCond, "batched_background_migration_job_id") {
		j.add(UnprunedLog, name)
	}
	isJobScan := isJobs(n.Relation) || strings.HasPrefix(n.Index, jobsTable+"_")
	if isJobScan && !index.IsPartial && !at.limited && !j.isOneRow(n) {
		j.add(WholeMigration, name)
	}
}

// isOneRow tells whether an index is entered with one value of a key.
func (j *judge) isOneRow(n *Node) bool {
	return j.catalog[n.Index].IsKey && oneValue.MatchString(n.IndexCond)
}

// add notes a violation once: ten partitions break a rule together.
func (j *judge) add(rule Rule, object string) {
	v := Violation{j.query.Name, rule, object}
	for _, known := range j.violations {
		if known == v {
			return
		}
	}
	j.violations = append(j.violations, v)
}

// isBounded tells whether a node gives a number of rows that does not depend on the size of a table: by a LIMIT, by the value of a key, or
// by being made of such.
func (j *judge) isBounded(n *Node) bool {
	switch n.NodeType {
	case "Limit", "Values Scan":
		return true
	case "Seq Scan":
		return n.Relation == "fleet_settings" // one row, by its check
	case "Index Scan", "Index Only Scan":
		return j.isOneRow(n)
	case "CTE Scan":
		cte, known := j.ctes[n.CTE]
		return known && j.isBounded(cte)
	case "Aggregate":
		return n.Strategy == "Plain" || j.inputsAreBounded(n)
	case "Result", "ModifyTable", "LockRows", "Sort", "Unique", "Subquery Scan", "Materialize", "Memoize", "Nested Loop", "Hash", "Hash Join", "Merge Join", "Append":
		return j.inputsAreBounded(n)
	}
	return false
}

func (j *judge) inputsAreBounded(n *Node) bool {
	for input := range n.inputs() {
		if !j.isBounded(input) {
			return false
		}
	}
	return true
}

// oneValue matches "(id = $1)", "(id = c.id)" and "(id = '7'::bigint)", but no list and no second condition.
var oneValue = regexp.MustCompile(`^\([\w.]+ = ([$\w.]+|'[^']*'::\w+)\)$`)

func isJobs(relation string) bool { return relation == jobsTable }

// isLogs is true of the log and of its partitions.
func isLogs(relation string) bool { return strings.HasPrefix(relation, logsTable) }

func mentions(condition, column string) bool {
	if column == "" {
		return condition != "" // an expression leads the index
	}
	return regexp.MustCompile(`\b` + regexp.QuoteMeta(column) + `\b`).MatchString(condition)
}
