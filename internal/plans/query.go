package plans

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Query is one of sqlc's queries, as it ships.
type Query struct {
	Name    string
	Text    string // the exported constant
	Purpose string // the first line of its comment in queries/
	Rows    string // how many rows are expected, from the kind of the query
}

// rowsExpected says what the kinds of sqlc promise.
var rowsExpected = map[string]string{
	":one":      "one, or none",
	":many":     "any number",
	":exec":     "none",
	":execrows": "none; the number of rows changed is read",
}

// ReadQueries reads the exported constants of the generated code and what queries/ says about each. root is the repository's.
func ReadQueries(root string) ([]Query, error) {
	texts, err := readConstants(filepath.Join(root, "internal", "dbgen"))
	if err != nil {
		return nil, err
	}
	purposes, err := readPurposes(filepath.Join(root, "queries"))
	if err != nil {
		return nil, err
	}
	var queries []Query
	for name, text := range texts {
		purpose, found := purposes[name]
		if !found {
			return nil, fmt.Errorf("query %s is in the generated code but not in queries/: run make sqlc", name)
		}
		delete(purposes, name)
		kind := strings.Fields(strings.SplitN(text, "\n", 2)[0])[3]
		queries = append(queries, Query{Name: name, Text: text, Purpose: purpose, Rows: rowsExpected[kind]})
	}
	for name := range purposes {
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

func readPurposes(dir string) (map[string]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.sql"))
	if err != nil {
		return nil, err
	}
	purposes := make(map[string]string)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read queries: %w", err)
		}
		for _, part := range strings.Split(string(text), "-- name: ")[1:] {
			lines := strings.SplitN(part, "\n", 3)
			if len(lines) < 3 || !strings.HasPrefix(lines[1], "-- ") {
				return nil, fmt.Errorf("query %q in %s does not say what it does", lines[0], file)
			}
			purposes[strings.Fields(lines[0])[0]] = strings.TrimPrefix(lines[1], "-- ")
		}
	}
	return purposes, nil
}
