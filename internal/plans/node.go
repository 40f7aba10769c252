package plans

import "iter"

// Node is a node of a plan, by EXPLAIN's own names.
type Node struct {
	NodeType    string   `json:"Node Type"`
	Relation    string   `json:"Relation Name"`
	Alias       string   `json:"Alias"`
	Index       string   `json:"Index Name"`
	IndexCond   string   `json:"Index Cond"`
	RecheckCond string   `json:"Recheck Cond"`
	Filter      string   `json:"Filter"`
	SortKey     []string `json:"Sort Key"`
	Role        string   `json:"Parent Relationship"`
	Subplan     string   `json:"Subplan Name"`
	Plans       []*Node  `json:"Plans"`
}

// All walks the node and everything below it, with the nodes above each, the root first.
func (n *Node) All() iter.Seq2[*Node, []*Node] {
	return func(yield func(*Node, []*Node) bool) { n.walk(nil, yield) }
}

func (n *Node) walk(above []*Node, yield func(*Node, []*Node) bool) bool {
	if !yield(n, above) {
		return false
	}
	above = append(above[:len(above):len(above)], n)
	for _, child := range n.Plans {
		if !child.walk(above, yield) {
			return false
		}
	}
	return true
}
