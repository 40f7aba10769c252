package work

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Target is the table of a work as the catalog has it.
type Target struct {
	Schema, Table string
	Columns       []Column // the cursor's, in order
	Repeated      bool     // several rows may have the same key
	Partitioned   bool

	Oid, RootOid uint32   // RootOid: of the topmost partitioned parent, or the table's own
	Name         string   // schema and table, quoted where SQL needs it
	Order        []string // of each cursor column's keys: see [RowSet]
	Rows         int64    // an estimate, of the whole table's
}

// Column is one column of a cursor.
type Column struct {
	Name string
	Type string // as format_type names it without a modifier: bigint, character varying, timestamp with time zone
}

// keyTypes are those whose text form is exact and keeps the order when it is cast back.
var keyTypes = []string{
	"smallint", "integer", "bigint", "numeric", "uuid", "text", "character varying",
	"date", "timestamp without time zone", "timestamp with time zone",
}

// KeyTypeAllowed reports whether a column of that type, named as by format_type without a modifier, may be part of a cursor.
func KeyTypeAllowed(name string) bool { return slices.Contains(keyTypes, name) }

// KeyTypes returns the types that a cursor's columns may have.
func KeyTypes() []string { return slices.Clone(keyTypes) }

// Statements are all statements about one work's target that are built at run time. Texts depend on the range's shape alone, so that a
// driver can cache them. It is safe for concurrent use.
//
// The texts rely on the session's settings: search_path begins with pg_catalog and ends in pg_temp,
// standard_conforming_strings is on.
type Statements struct {
	work    *Work
	target  Target
	from    string // the quoted table AS u
	types   map[string]string
	label   string
	lastKey string
	single  bool
	bounds  []string    // the boundary query by shape
	works   []statement // the work by shape; nil for a Go work
	cache   templateCache

	only   string      // a condition that @batch holds beside the range; "" for none
	pieces []string    // by shape: the look for rows that remain; nil where the work does not say which
	passes *Statements // for jobs that go again over what remains; nil likewise
}

// statement is a text with the arguments that follow the range's values.
type statement struct {
	sql       string
	arguments []string
}

// ownAlias is how boundary queries call the table.
const ownAlias = "u"

// NewStatements builds the texts. The target's columns are the work's cursor, and their types are allowed (see [KeyTypeAllowed]).
func NewStatements(w *Work, target Target) *Statements {
	s := newStatements(w, target, "", false)
	if w.Remaining != "" {
		s.prove()
	}
	return s
}

// SingleRow returns the same statements for ranges that mean the row of their upper key alone, whatever else has come to be between their keys. Where the
// work says what remains, @batch stands for the row only if it does: a job of a pass may have changed it since it was left out.
func (s *Statements) SingleRow() *Statements {
	return newStatements(s.work, s.target, s.work.Remaining, true)
}

func newStatements(w *Work, target Target, only string, single bool) *Statements {
	s := &Statements{work: w, target: target, only: only, types: make(map[string]string, len(w.Arguments)), single: single}
	for _, argument := range w.Arguments {
		s.types[argument.Name] = argument.Type
	}
	s.from = pgx.Identifier{target.Schema, target.Table}.Sanitize() + " AS " + ownAlias
	s.label = fmt.Sprintf("/* bbm-runner: %s %s */ ", w.Name, w.Checksum())
	s.lastKey = s.buildLastKey()
	shapes := allShapes(len(target.Columns))
	if single {
		shapes = []shape{{columns: len(target.Columns), single: true}}
	}
	for _, shape := range shapes {
		s.bounds = append(s.bounds, s.buildBoundary(shape))
		if w.statement != nil {
			s.works = append(s.works, s.expand(w.statement, shape))
		}
	}
	return s
}

// Label is the comment before each of the texts: it tells in the server's views whose statement it
// is, and keeps works of one text but other settings apart among prepared statements, whose
// constants are read once.
func (s *Statements) Label() string { return s.label }

// shapeOf is the shape of the texts for a range.
func (s *Statements) shapeOf(r Range) shape {
	if s.single {
		return shape{columns: len(s.target.Columns), single: true}
	}
	return shapeOf(len(s.target.Columns), r)
}

// Work returns the work's statement for a range. It returns an error when the keys do not fit the cursor or an argument is missing; a Go
// work has no statement.
func (s *Statements) Work(r Range, arguments Arguments) (sql string, values []any, err error) {
	if s.works == nil {
		return "", nil, fmt.Errorf("work %q is written in Go: it has no statement", s.work.Name)
	}
	shape := s.shapeOf(r)
	return s.bind(s.works[shape.index()], shape, r, arguments)
}

// expand writes a template for ranges of that shape.
func (s *Statements) expand(t *template, shape shape) statement {
	predicate := func(alias string) string {
		if s.only != "" {
			return s.batchOnly(shape.predicate(s.target.Columns, alias), alias, s.only)
		}
		return shape.predicate(s.target.Columns, alias)
	}
	sql, arguments := t.expand(predicate, s.types, shape.parameters()+1)
	return statement{sql, arguments}
}

// bind puts the values beside a statement.
func (s *Statements) bind(built statement, shape shape, r Range, arguments Arguments) (string, []any, error) {
	values := shape.values(r)
	if values == nil {
		return "", nil, fmt.Errorf("work %q: keys %q and %q do not fit its cursor of %d columns", s.work.Name, r.After, r.Until, shape.columns)
	}
	for _, name := range built.arguments {
		text, given := arguments[name]
		if !given {
			return "", nil, fmt.Errorf("work %q: argument %q is missing", s.work.Name, name)
		}
		values = append(values, orNull(text))
	}
	return built.sql, values, nil
}

// ArgumentCheck returns a query that raises when a value does not fit its argument's type; "" when there is nothing to check. Given one
// argument alone, the error is about that one.
func (s *Statements) ArgumentCheck(arguments Arguments) (sql string, values []any) {
	var casts []string
	for _, argument := range s.work.Arguments {
		text, given := arguments[argument.Name]
		if !given {
			continue
		}
		values = append(values, orNull(text))
		casts = append(casts, fmt.Sprintf("$%d::text::%s", len(values), argument.Type))
	}
	if casts == nil {
		return "", nil
	}
	return "SELECT " + strings.Join(casts, ", "), values
}

// orNull makes NULL a plain nil, which every way of sending parameters understands.
func orNull(text *string) any {
	if text == nil {
		return nil
	}
	return *text
}
