package work

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// PlanNode is what counts here of a node of EXPLAIN's JSON, with VERBOSE.
type PlanNode struct {
	NodeType      string  `json:"Node Type"`
	Operation     string  `json:"Operation"`
	Relationship  string  `json:"Parent Relationship"`
	Subplan       string  `json:"Subplan Name"`
	Schema        string  `json:"Schema"`
	Table         string  `json:"Relation Name"`
	Alias         string  `json:"Alias"`
	Index         string  `json:"Index Name"`
	IndexCond     string  `json:"Index Cond"`
	Filter        string  `json:"Filter"`
	JoinFilter    string  `json:"Join Filter"`
	OneTimeFilter string  `json:"One-Time Filter"`
	Rows          float64 `json:"Plan Rows"`
	TotalCost     float64 `json:"Total Cost"`
	Output        []string
	Plans         []PlanNode
}

// ReadPlans reads EXPLAIN's JSON: one plan, more where a rule adds statements, none where one has
// replaced the statement by nothing.
func ReadPlans(text []byte) ([]PlanNode, error) {
	var roots []struct{ Plan PlanNode }
	if err := json.Unmarshal(text, &roots); err != nil {
		return nil, fmt.Errorf("read the plan: %w", err)
	}
	plans := make([]PlanNode, len(roots))
	for i, root := range roots {
		plans[i] = root.Plan
	}
	return plans, nil
}

// Walk visits a node and all below it. times is how often the planner expects each to be run to its
// end: below 1 for one that a LIMIT or an EXISTS ends early.
func (n PlanNode) Walk(visit func(n PlanNode, times float64)) { n.walk(1, n.aliases(), visit) }

func (n PlanNode) walk(times float64, all []string, visit func(n PlanNode, times float64)) {
	visit(n, times)
	for _, child := range n.Plans {
		child.walk(n.timesOf(child, times, all), all, visit)
	}
}

// timesOf is how often a child is run where its parent is run that often. What the plan does not
// say is taken from its costs: a parent's cost holds that of what it repeats as often as the
// planner expects, with all that it knows of rows kept in a Memoize or not read to the end.
func (n PlanNode) timesOf(child PlanNode, times float64, all []string) float64 {
	switch {
	case child.Relationship == "InitPlan", n.NodeType == "Hash", n.NodeType == "Materialize":
		if times > 1 && child.dependsOn(all) {
			return times
		}
		return 1 // its rows are kept
	case child.TotalCost <= 0:
		return times
	case n.NodeType == "Limit":
		return times * min(1, n.TotalCost/child.TotalCost)
	case child.Relationship == "Inner" && n.NodeType == "Nested Loop":
		return times * n.costWithout(child) / child.TotalCost
	case child.Relationship != "SubPlan":
		return times
	case n.expresses("hashed " + child.Subplan):
		return 1
	}
	calls := n.costWithout(child) / child.TotalCost
	if strings.Contains(n.Filter, " AND ") || !mentionsSubplan(n.Filter, child.Subplan) {
		// The planner counts a call for each row, also for those that another condition keeps out.
		calls = min(calls, max(1, n.Rows))
	}
	return times * calls
}

// aliases are the names of all tables in a node and below it.
func (n PlanNode) aliases() (names []string) {
	if n.Alias != "" {
		names = append(names, n.Alias)
	}
	for _, child := range n.Plans {
		names = append(names, child.aliases()...)
	}
	return names
}

// dependsOn tells whether a node or one below it names a table of the plan that is not below it, so
// that it has other rows each time.
func (n PlanNode) dependsOn(all []string) bool {
	own := n.aliases()
	return slices.ContainsFunc(all, func(alias string) bool { return !slices.Contains(own, alias) && n.names(alias) })
}

// names tells whether an expression in a node or below it is about an alias.
func (n PlanNode) names(alias string) bool {
	name := regexp.MustCompile(`(^|[^\w."])"?` + regexp.QuoteMeta(strings.ReplaceAll(alias, `"`, `""`)) + `"?\.`)
	return slices.ContainsFunc(append([]string{n.IndexCond, n.Filter, n.JoinFilter}, n.Output...), name.MatchString) ||
		slices.ContainsFunc(n.Plans, func(child PlanNode) bool { return child.names(alias) })
}

// costWithout is a node's cost without that of the children that it runs once.
func (n PlanNode) costWithout(repeated PlanNode) float64 {
	cost := n.TotalCost
	for _, child := range n.Plans {
		if child.Relationship != "SubPlan" && child.Relationship != repeated.Relationship || n.expresses("hashed "+child.Subplan) {
			cost -= child.TotalCost
		}
	}
	return max(0, cost)
}

// expresses tells whether one of a node's expressions names a subplan so.
func (n PlanNode) expresses(name string) bool {
	for _, expression := range append([]string{n.Filter, n.JoinFilter}, n.Output...) {
		if mentionsSubplan(expression, name) {
			return true
		}
	}
	return false
}

// mentionsSubplan tells SubPlan 1 from SubPlan 12.
func mentionsSubplan(expression, name string) bool {
	return strings.Contains(expression, name) && regexp.MustCompile(regexp.QuoteMeta(name)+`\b`).MatchString(expression)
}
