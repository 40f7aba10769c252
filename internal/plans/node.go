package plans

import "iter"

// Node is a node of a plan, by EXPLAIN's own names.
type Node struct {
	NodeType  string  `json:"Node Type"`
	Role      string  `json:"Parent Relationship"`
	Subplan   string  `json:"Subplan Name"` // "CTE claimed_job" for a CTE
	Relation  string  `json:"Relation Name"`
	Index     string  `json:"Index Name"`
	IndexCond string  `json:"Index Cond"`
	CTE       string  `json:"CTE Name"`
	Strategy  string  `json:"Strategy"`
	Plans     []*Node `json:"Plans"`
}

// All walks the node and everything below it: inputs, CTEs and subplans.
func (n *Node) All() iter.Seq[*Node] {
	return func(yield func(*Node) bool) { n.walk(yield) }
}

func (n *Node) walk(yield func(*Node) bool) bool {
	if !yield(n) {
		return false
	}
	for _, child := range n.Plans {
		if !child.walk(yield) {
			return false
		}
	}
	return true
}

// inputs are the nodes whose rows go into this one's: neither CTEs nor subplans.
func (n *Node) inputs() iter.Seq[*Node] {
	return func(yield func(*Node) bool) {
		for _, child := range n.Plans {
			if child.Role != "InitPlan" && child.Role != "SubPlan" && !yield(child) {
				return
			}
		}
	}
}
