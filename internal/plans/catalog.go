package plans

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Index is what has to be known of an index to judge a scan of it.
type Index struct {
	Name      string
	Schema    string
	Table     string
	Parent    string // the partitioned index that it is a part of; empty: none
	Leading   string // the first column; empty: an expression
	IsKey     bool   // one column, unique, and not partial: a value of it is one row
	IsPartial bool
}

// Catalog is what the database knows of its indexes, by name.
type Catalog map[string]Index

// ReadCatalog reads the indexes of our schema and of the system's.
func ReadCatalog(ctx context.Context, conn *pgx.Conn) (Catalog, error) {
	rows, err := conn.Query(ctx, `
SELECT
    c.relname::text,
    n.nspname::text,
    (SELECT t.relname::text FROM pg_catalog.pg_class AS t WHERE t.oid = i.indrelid),
    coalesce((SELECT p.relname::text FROM pg_catalog.pg_inherits AS h JOIN pg_catalog.pg_class AS p ON p.oid = h.inhparent WHERE h.inhrelid = c.oid), ''),
    coalesce((SELECT a.attname::text FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = i.indrelid AND a.attnum = i.indkey[0]), ''),
    i.indisunique AND i.indnkeyatts = 1 AND i.indpred IS NULL,
    i.indpred IS NOT NULL
FROM pg_catalog.pg_index AS i
JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname IN ('bbm', 'pg_catalog')`)
	if err != nil {
		return nil, fmt.Errorf("read indexes: %w", err)
	}
	indexes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Index])
	if err != nil {
		return nil, fmt.Errorf("read indexes: %w", err)
	}
	catalog := make(Catalog, len(indexes))
	for _, index := range indexes {
		catalog[index.Name] = index
	}
	return catalog, nil
}

// IsOurs tells an index of the schema bbm from one of the system's catalog, and from none.
func (i Index) IsOurs() bool { return i.Schema == "bbm" }

// NameOf is the name that a reader knows an index by: for a month's part, that of the log's.
func (c Catalog) NameOf(index string) string {
	return cmp.Or(c[index].Parent, index)
}

// NameParents writes the index of a month's partition under the name of the log's: PostgreSQL numbers those of the months, and
// batched_background_migration__batched_background_migration_idx5 tells nobody which it is.
func (c Catalog) NameParents(plan string) string {
	lines := strings.Split(plan, "\n")
	for i, line := range lines {
		before, rest, found := strings.Cut(line, " using ")
		name, after, isScan := strings.Cut(rest, " ")
		if index, known := c[name]; found && isScan && known && index.Parent != "" {
			lines[i] = before + " using " + index.Parent + " " + after
		}
	}
	return strings.Join(lines, "\n")
}
