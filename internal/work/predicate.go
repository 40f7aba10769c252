package work

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// shape is all that the text of a range predicate depends on beside the cursor: whether the range has a lower bound, and how many leading
// columns have the same text in both keys. A cursor of k columns has k+1 shapes, so the driver prepares that many texts at most.
type shape struct {
	columns int
	first   bool // no lower bound
	shared  int  // less than columns, so that one column at least bounds the range
	single  bool // not the range but the row of its upper key alone
}

func shapeOf(columns int, r Range) shape {
	s := shape{columns: columns, first: r.After == nil}
	for s.shared < min(columns-1, len(r.After), len(r.Until)) && r.After[s.shared] == r.Until[s.shared] {
		s.shared++
	}
	return s
}

// allShapes returns the shapes of a cursor, in the order of their index.
func allShapes(columns int) []shape {
	shapes := []shape{{columns: columns, first: true}}
	for shared := range columns {
		shapes = append(shapes, shape{columns: columns, shared: shared})
	}
	return shapes
}

func (s shape) index() int {
	if s.first || s.single {
		return 0
	}
	return 1 + s.shared
}

// parameters is how many parameters the range takes: $1 to $parameters. Shared values stand once.
func (s shape) parameters() int {
	if s.first || s.single {
		return s.columns
	}
	return 2*s.columns - s.shared
}

// after and until number the parameter of a column's lower and upper value.
func (s shape) after(column int) int { return column + 1 }

func (s shape) until(column int) int {
	if s.first || s.single || column < s.shared {
		return column + 1
	}
	return column + 1 + s.columns - s.shared
}

// values are the parameters of a range of this shape. Keys that do not fit the cursor give none, so that the driver refuses the statement.
func (s shape) values(r Range) []any {
	if len(r.Until) != s.columns || !s.first && !s.single && len(r.After) != s.columns {
		return nil
	}
	values := make([]any, 0, s.parameters()+1)
	if !s.single {
		for _, value := range r.After {
			values = append(values, value)
		}
	}
	for _, value := range r.Until[s.shared:] {
		values = append(values, value)
	}
	return values
}

// predicate writes the range in parentheses.
func (s shape) predicate(columns []Column, alias string) string {
	if s.first || s.single {
		return s.between(columns, alias, nil)
	}
	return s.between(columns, alias, func(i int) string { return value(s.after(i), columns[i]) })
}

// between writes the part of a range that lies behind a key, which is given as one expression for each column; nil for the whole of it. Where several
// columns are left after the shared ones, rows are compared, and plain bounds on the first of them are added: row values alone estimate badly and
// prune no partitions.
func (s shape) between(columns []Column, alias string, after func(column int) string) string {
	var terms []string
	until := func(column int) string { return value(s.until(column), columns[column]) }
	compare := func(column int, operator string, bound func(int) string) {
		terms = append(terms, qualified(alias, columns[column])+" "+operator+" "+bound(column))
	}
	compareRows := func(operator string, bound func(int) string) {
		names, bounds := make([]string, 0, len(columns)), make([]string, 0, len(columns))
		for i := s.shared; i < len(columns); i++ {
			names = append(names, qualified(alias, columns[i]))
			bounds = append(bounds, bound(i))
		}
		terms = append(terms, fmt.Sprintf("(%s) %s (%s)", strings.Join(names, ", "), operator, strings.Join(bounds, ", ")))
	}
	if s.single {
		for i := range s.columns {
			compare(i, "=", until)
		}
		if after != nil {
			compare(s.columns-1, ">", after) // nothing is
		}
		return "(" + strings.Join(terms, " AND ") + ")"
	}
	for i := range s.shared {
		compare(i, "=", until)
	}
	rest := s.shared
	if several := s.columns-rest > 1; several && after != nil {
		compareRows(">", after)
		compareRows("<=", until)
		compare(rest, ">=", after)
	} else if several {
		compareRows("<=", until)
	} else if after != nil {
		compare(rest, ">", after)
	}
	compare(rest, "<=", until)
	return "(" + strings.Join(terms, " AND ") + ")"
}

// value is a parameter in text form, cast to the column's type by the server.
func value(parameter int, column Column) string {
	return fmt.Sprintf("$%d::text::%s", parameter, column.Type)
}

// qualified is a column's name behind the alias, if there is one.
func qualified(alias string, column Column) string {
	if alias == "" {
		return pgx.Identifier{column.Name}.Sanitize()
	}
	return pgx.Identifier{alias, column.Name}.Sanitize()
}
