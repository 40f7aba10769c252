package plans

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Major is the version of PostgreSQL that the committed plans are of. Others plan a little differently, and print so: there the rules alone hold.
const Major = 15

// Dir returns the folder of the committed plans; root is the repository's.
func Dir(root string) string { return filepath.Join(root, "queries", "plans") }

// Render returns the text of a query's file.
func Render(q Query, plan string) string {
	return fmt.Sprintf("-- %s\n%s\n-- Rows expected: %s.\n-- Generic plan of PostgreSQL %d at 10 million jobs.\n\n%s", q.Name, q.Purpose, q.Rows, Major, plan)
}

// RenderAll explains every query and returns the texts of the files, by the file's name.
func RenderAll(ctx context.Context, conn *pgx.Conn, queries []Query) (map[string]string, error) {
	catalog, err := ReadCatalog(ctx, conn)
	if err != nil {
		return nil, err
	}
	files := make(map[string]string, len(queries))
	for _, q := range queries {
		plan, err := Explain(ctx, conn, q)
		if err != nil {
			return nil, err
		}
		files[q.Name+".txt"] = Render(q, catalog.NameParents(plan))
	}
	return files, nil
}

// ReadFiles returns the committed files, by name. A folder that is missing holds none.
func ReadFiles(dir string) (map[string]string, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return nil, err
	}
	files := make(map[string]string, len(paths))
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read plan: %w", err)
		}
		files[filepath.Base(path)] = string(text)
	}
	return files, nil
}

// WriteFiles makes the folder hold these files and no other plans.
func WriteFiles(dir string, files map[string]string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make folder of plans: %w", err)
	}
	old, err := ReadFiles(dir)
	if err != nil {
		return err
	}
	for name := range old {
		if _, wanted := files[name]; wanted {
			continue
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("remove stale plan: %w", err)
		}
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write plan: %w", err)
		}
	}
	return nil
}

// Differences returns the names of the files that are not the same in both, or in one alone.
func Differences(a, b map[string]string) []string {
	var names []string
	for name := range a {
		if a[name] != b[name] {
			names = append(names, name)
		}
	}
	for name := range b {
		if _, both := a[name]; !both {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, strings.Compare)
	return names
}
