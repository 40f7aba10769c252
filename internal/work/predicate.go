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
	if s.first {
		return 0
	}
	return 1 + s.shared
}

// parameters is how many parameters the range takes: $1 to $parameters. Shared values stand once.
func (s shape) parameters() int {
	if s.first {
		return s.columns
	}
	return 2*s.columns - s.shared
}

// after and until number the parameter of a column's lower and upper value.
func (s shape) after(column int) int { return column + 1 }

func (s shape) until(column int) int {
	if s.first || column < s.shared {
		return column + 1
	}
	return column + 1 + s.columns - s.shared
}

// values are the parameters of a range of this shape. Keys that do not fit the cursor give none, so that the driver refuses the statement.
func (s shape) values(r Range) []any {
	if len(r.Until) != s.columns || !s.first && len(r.After) != s.columns {
		return nil
	}
	values := make([]any, 0, s.parameters()+1)
	for _, value := range r.After {
		values = append(values, value)
	}
	for _, value := range r.Until[s.shared:] {
		values = append(values, value)
	}
	return values
}

// predicate writes the range in parentheses. Where several columns are left after the shared ones, rows are compared, and plain bounds on
// the first of them are added: row values alone estimate badly and prune no partitions.
func (s shape) predicate(columns []Column, alias string) string {
	var terms []string
	compare := func(column int, operator string, parameter int) {
		terms = append(terms, qualified(alias, columns[column])+" "+operator+" "+value(parameter, columns[column]))
	}
	compareRows := func(operator string, parameter func(int) int) {
		names, bounds := make([]string, 0, len(columns)), make([]string, 0, len(columns))
		for i := s.shared; i < len(columns); i++ {
			names = append(names, qualified(alias, columns[i]))
			bounds = append(bounds, value(parameter(i), columns[i]))
		}
		terms = append(terms, fmt.Sprintf("(%s) %s (%s)", strings.Join(names, ", "), operator, strings.Join(bounds, ", ")))
	}
	for i := range s.shared {
		compare(i, "=", s.until(i))
	}
	rest := s.shared
	if several := s.columns-rest > 1; several && !s.first {
		compareRows(">", s.after)
		compareRows("<=", s.until)
		compare(rest, ">=", s.after(rest))
	} else if several {
		compareRows("<=", s.until)
	} else if !s.first {
		compare(rest, ">", s.after(rest))
	}
	compare(rest, "<=", s.until(rest))
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
