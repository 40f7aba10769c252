package work

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

const (
	// noticedScan is how many rows make the reading of all of a table, once for each sub-batch, worth
	// a warning: they cost about a millisecond.
	noticedScan = 10_000
	// noticedRepeated is the same where it is read again for rows of the batch: 100 rows for each of
	// 1,000 cost ten times as much.
	noticedRepeated = 100
	// repeatedFrom is how many times are more than once, or once and again by the planner's rounding.
	repeatedFrom = 3
	// againAndAgain is how often a large table is read in a sub-batch before the work is refused: ten
	// times 100,000 rows cost half of the time that a sub-batch should take altogether. Less may be a
	// plan that happens to expect two rows instead of one.
	againAndAgain = 10
)

// Read is one table that a statement reads without an index that finds its rows, for each sub-batch
// or even for rows of it.
type Read struct {
	name      string
	root      uint32  // the topmost table, where it is a partition
	rows      float64 // of the table as it is now
	times     float64 // how often in one sub-batch, as the planner expects
	kept      bool    // the rows are those of it that are in memory, and compared with others
	condition string
}

// FindReads lists what plans read so, partitions as one table. Tables that a plan ends early, as by
// a LIMIT, count by what is read of them.
func FindReads(ctx context.Context, db dbgen.DBTX, plans ...PlanNode) (reads []Read, err error) {
	for _, plan := range plans {
		plan.Walk(func(n PlanNode, times float64) {
			switch {
			case err != nil:
			case n.readsAll():
				reads, err = addRead(ctx, db, reads, n, Read{times: times, condition: n.Filter})
			case n.NodeType == "Nested Loop":
				reads, err = addJoin(ctx, db, reads, n, times)
			}
		})
	}
	return reads, err
}

// readsAll tells whether a node reads a table or an index from end to end. min() and max() have a
// condition that excludes no key.
func (n PlanNode) readsAll() bool {
	isOpen := n.IndexCond == "" || strings.HasSuffix(n.IndexCond, " IS NOT NULL)") && !strings.Contains(n.IndexCond, " AND ")
	return n.NodeType == "Seq Scan" || strings.HasPrefix(n.NodeType, "Index") && isOpen
}

// addJoin adds a join without an index, by rows that are kept in memory: whichever table's they
// are, each row meets each.
func addJoin(ctx context.Context, db dbgen.DBTX, reads []Read, n PlanNode, times float64) ([]Read, error) {
	few, many := n.child("Outer"), n.child("Inner")
	if many.NodeType != "Materialize" {
		return reads, nil
	}
	if many.Rows < few.Rows {
		few, many = many, few
	}
	table := many.firstTable()
	if table == nil || many.Rows < noticedScan {
		return reads, nil
	}
	return addRead(ctx, db, reads, *table, Read{times: times * few.Rows, rows: many.Rows, kept: true})
}

// child is the first child in that relationship.
func (n PlanNode) child(relationship string) PlanNode {
	for _, child := range n.Plans {
		if child.Relationship == relationship {
			return child
		}
	}
	return PlanNode{}
}

// addRead adds what a node reads to the list.
func addRead(ctx context.Context, db dbgen.DBTX, reads []Read, n PlanNode, r Read) ([]Read, error) {
	table, err := dbgen.New().PlanTable(ctx, db, dbgen.PlanTableParams{SchemaName: n.Schema, TableName: n.Table, IndexName: n.Index})
	if errors.Is(err, pgx.ErrNoRows) {
		return reads, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at table %s: %w", WriteName(n.Schema, n.Table), err)
	}
	r.name, r.root = table.RootName, table.RootOid
	if !r.kept {
		r.rows = table.Rows
	}
	isSame := func(other Read) bool {
		return r.root == other.root && r.kept == other.kept && r.isRepeated() == other.isRepeated()
	}
	if i := slices.IndexFunc(reads, isSame); i >= 0 {
		reads[i].rows += r.rows
		reads[i].times = max(reads[i].times, r.times)
		return reads, nil
	}
	return append(reads, r), nil
}

// firstTable is the first table that a node or one below it reads; nil for none.
func (n PlanNode) firstTable() *PlanNode {
	if n.Table != "" {
		return &n
	}
	for _, child := range n.Plans {
		if found := child.firstTable(); found != nil {
			return found
		}
	}
	return nil
}

func (r Read) isRepeated() bool { return r.times >= repeatedFrom }

// isOf tells whether the table is the target, or another part of the partitioned table that the
// target is in.
func (r Read) isOf(t Target) bool { return r.root == t.RootOid }

// isIntolerable tells whether a work that reads so is refused.
func (r Read) isIntolerable() bool { return r.rows >= largeTable && r.times >= againAndAgain }

// Warning is what a reviewer should know about it; nil for nothing. subBatches is how many a run
// has.
func (r Read) Warning(subBatches int64) *Warning {
	switch {
	case r.isRepeated() && r.rows < noticedRepeated:
	case r.isRepeated():
		text := r.repeated()
		if r.rows < largeTable {
			text += fmt.Sprintf("; with %s rows or more it is refused", about(largeTable))
		}
		return &Warning{"no_index", text, r.name}
	case r.rows*r.times >= noticedScan:
		text := fmt.Sprintf("all of %s (about %s rows) is read for each sub-batch, about %s times in the whole run: no index serves %s",
			r.name, about(r.rows), about(float64(subBatches)), r.search())
		return &Warning{"full_scan", text, r.name}
	}
	return nil
}

// ReadByLarger is what the plan of a larger sub-batch reads whole and that of a smaller does not,
// of other tables than the target.
func ReadByLarger(smaller, larger []Read, t Target) (more []Read) {
	for _, r := range larger {
		isKnown := slices.ContainsFunc(smaller, func(other Read) bool { return other.root == r.root && other.rows*other.times >= noticedScan })
		if !r.kept && !r.isOf(t) && r.rows*r.times >= noticedScan && !isKnown {
			more = append(more, r)
		}
	}
	return more
}

// Table is its name, that of the root for partitions.
func (r Read) Table() string { return r.name }

// WarningOfLarger is that a table is read whole in sub-batches of one size, and not in those of a
// smaller.
func (r Read) WarningOfLarger(smaller, larger int64) Warning {
	return Warning{"plan_changes", fmt.Sprintf("from some size of sub-batches on all of %s (about %s rows) is read for each: the plan for %s rows does so, that for %s does not; "+
		"a run that chooses the size stays below where a row costs clearly more, and sub_batch_size fixes one", r.name, about(r.rows), about(float64(larger)), about(float64(smaller))), r.name}
}

// repeated says what is read again, and what helps.
func (r Read) repeated() string {
	if r.kept {
		return fmt.Sprintf("%s (about %s rows) is compared row by row, again and again: about %s times in one sub-batch; give the join a condition that an index "+
			"of %s serves", r.name, about(r.rows), about(r.times), r.name)
	}
	return fmt.Sprintf("all of %s (about %s rows) is read again for rows of the batch, about %s times in one sub-batch: no index serves %s; create one "+
		"(CREATE INDEX CONCURRENTLY)", r.name, about(r.rows), about(r.times), r.search())
}

// search is what an index would have to serve.
func (r Read) search() string {
	const longest = 150
	if r.condition == "" || len(r.condition) > longest {
		return "that search"
	}
	return r.condition
}

// about writes a number in three digits, as 1,000 and 123,000 are read.
func about(number float64) string {
	digits := strconv.FormatFloat(number, 'g', 3, 64)
	rounded, err := strconv.ParseFloat(digits, 64)
	if err != nil {
		return digits
	}
	text := strconv.FormatFloat(rounded, 'f', 0, 64)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
