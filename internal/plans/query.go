package plans

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Query is one of sqlc's queries, as it ships.
type Query struct {
	Name    string
	Text    string // the exported constant
	Purpose string // what its comment in queries/ says first, up to its callers
	Callers string // the line of its comment that names them
	Indexes string // what its comment says of the indexes that serve it
	Rows    string // how many rows are expected
}

// IsCycle tells whether a runner sends the query: while it polls, claims, executes and records.
func (q Query) IsCycle() bool { return strings.Contains(q.Callers, "runner.") }

// lastLimit matches the LIMIT of the query itself, not one inside it.
var lastLimit = regexp.MustCompile(`\nLIMIT (\S+)\s*$`)

// rows says how many rows are expected, by what sqlc's kind of query promises and by the LIMIT.
func rows(text string) string {
	switch strings.Fields(text)[3] {
	case ":one":
		return "one, or none"
	case ":exec":
		return "none"
	case ":execrows":
		return "none; how many were changed is read"
	}
	limit := lastLimit.FindStringSubmatch(text)
	switch {
	case limit == nil:
		return "any number"
	case strings.HasPrefix(limit[1], "$"):
		return "a page"
	}
	return "at most " + limit[1]
}

// ReadQueries reads the exported constants of the generated code and what queries/ says about each. root is the repository's.
func ReadQueries(root string) ([]Query, error) {
	texts, err := readConstants(filepath.Join(root, "internal", "dbgen"))
	if err != nil {
		return nil, err
	}
	comments, err := readComments(filepath.Join(root, "queries"))
	if err != nil {
		return nil, err
	}
	var queries []Query
	for name, text := range texts {
		comment, found := comments[name]
		if !found {
			return nil, fmt.Errorf("query %s is in the generated code but not in queries/: run make sqlc", name)
		}
		delete(comments, name)
		queries = append(queries, Query{Name: name, Text: text, Purpose: comment.purpose, Callers: comment.callers, Indexes: comment.indexes, Rows: rows(text)})
	}
	for name := range comments {
		return nil, fmt.Errorf("query %s is in queries/ but not in the generated code: run make sqlc", name)
	}
	slices.SortFunc(queries, func(a, b Query) int { return strings.Compare(a.Name, b.Name) })
	return queries, nil
}

// readConstants parses the generated files: reflection does not see constants.
func readConstants(dir string) (map[string]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.sql.go"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, errors.New("no generated code in " + dir)
	}
	texts := make(map[string]string)
	for _, file := range files {
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			return nil, fmt.Errorf("read generated code: %w", err)
		}
		for _, object := range tree.Scope.Objects {
			spec, isValue := object.Decl.(*ast.ValueSpec)
			if !isValue || object.Kind != ast.Con || !ast.IsExported(object.Name) {
				continue
			}
			literal, isLiteral := spec.Values[0].(*ast.BasicLit)
			if !isLiteral || literal.Kind != token.STRING {
				continue
			}
			text, err := strconv.Unquote(literal.Value)
			if err != nil {
				return nil, fmt.Errorf("read generated constant %s: %w", object.Name, err)
			}
			texts[object.Name] = text
		}
	}
	return texts, nil
}

// comment is what stands above a query, part by part.
type comment struct{ purpose, callers, indexes string }

func readComments(dir string) (map[string]comment, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.sql"))
	if err != nil {
		return nil, err
	}
	comments := make(map[string]comment)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read queries: %w", err)
		}
		for _, part := range strings.Split(string(text), "-- name: ")[1:] {
			name, rest, _ := strings.Cut(part, "\n")
			if !strings.HasPrefix(rest, "-- ") {
				return nil, fmt.Errorf("query %q in %s does not say what it does", name, file)
			}
			purpose, rest, _ := strings.Cut(rest, "\n-- Called by: ")
			callers, rest, _ := strings.Cut(rest, "\n-- Index: ")
			indexes, _, _ := strings.Cut(rest, "\n-- Locks: ")
			comments[strings.Fields(name)[0]] = comment{purpose, callers, indexes}
		}
	}
	return comments, nil
}
