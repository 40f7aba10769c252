package plans

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// version is a hash of what decides a seeded database: the seed, our tables and views as they are,
// and what our functions take and return. What the functions do is not among it: a database that is
// kept gets the present ones.
func version(ctx context.Context, conn *pgx.Conn) (string, error) {
	rows, err := conn.Query(ctx, `
SELECT d.definition
FROM (
    SELECT c.oid, format('%s %s %s', c.relname, c.relkind, c.reloptions) AS definition
    FROM pg_catalog.pg_class AS c
    WHERE c.relkind IN ('r', 'p')
    UNION ALL
    SELECT c.oid, pg_get_viewdef(c.oid)
    FROM pg_catalog.pg_class AS c
    WHERE c.relkind = 'v'
    UNION ALL
    SELECT a.attrelid, format('%s %s %s', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull)
    FROM pg_catalog.pg_attribute AS a
    WHERE a.attnum > 0
    UNION ALL
    SELECT i.indrelid, pg_get_indexdef(i.indexrelid)
    FROM pg_catalog.pg_index AS i
    UNION ALL
    SELECT r.conrelid, pg_get_constraintdef(r.oid)
    FROM pg_catalog.pg_constraint AS r
) AS d
JOIN pg_catalog.pg_class AS c ON c.oid = d.oid
WHERE c.relnamespace = 'bbm'::regnamespace
  AND NOT c.relispartition
UNION ALL
SELECT format('%s %s %s', p.proname, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid))
FROM pg_catalog.pg_proc AS p
WHERE p.pronamespace = 'bbm'::regnamespace
ORDER BY definition`)
	if err != nil {
		return "", fmt.Errorf("read tables: %w", err)
	}
	definitions, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return "", fmt.Errorf("read tables: %w", err)
	}
	hash := sha256.New()
	_, _ = fmt.Fprintln(hash, definitions, unsucceededEvery, firstMonth, months, seedMigrations, seedJobs, seedLogs, finishMigrations) // never fails
	return hex.EncodeToString(hash.Sum(nil))[:12], nil
}

// readFunctions returns the statements that make our functions, in the order in which they were made.
func readFunctions(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	rows, err := conn.Query(ctx, "SELECT pg_get_functiondef(p.oid) FROM pg_catalog.pg_proc AS p WHERE p.pronamespace = 'bbm'::regnamespace ORDER BY p.oid")
	if err != nil {
		return nil, fmt.Errorf("read functions: %w", err)
	}
	definitions, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read functions: %w", err)
	}
	return definitions, nil
}

// replaceFunctions gives our functions the bodies of the definitions; they are the same functions,
// by the version. They are not dropped, since views and others of them depend on some.
func replaceFunctions(ctx context.Context, conn *pgx.Conn, definitions []string) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, sql := range definitions {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return fmt.Errorf("replace functions: %w", err)
			}
		}
		return nil
	})
}
