package plans

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// version is a hash of what decides a seeded database: the seed, and our tables as they are. Functions are not among it:
// a database that is kept gets the present ones.
func version(ctx context.Context, conn *pgx.Conn) (string, error) {
	rows, err := conn.Query(ctx, `
SELECT d.definition
FROM (
    SELECT c.oid, format('%s %s %s', c.relname, c.relkind, c.reloptions) AS definition
    FROM pg_catalog.pg_class AS c
    WHERE c.relkind IN ('r', 'p')
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
ORDER BY c.relname, d.definition`)
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

// readFunctions returns the statements that make our functions, and the views that call them, in
// the order in which they were made.
func readFunctions(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	rows, err := conn.Query(ctx, `
SELECT d.definition
FROM (
    SELECT p.oid, pg_get_functiondef(p.oid) AS definition
    FROM pg_catalog.pg_proc AS p
    WHERE p.pronamespace = 'bbm'::regnamespace
    UNION ALL
    SELECT c.oid, format('CREATE VIEW bbm.%I AS %s', c.relname, pg_get_viewdef(c.oid))
    FROM pg_catalog.pg_class AS c
    WHERE c.relnamespace = 'bbm'::regnamespace
      AND c.relkind = 'v'
) AS d
ORDER BY d.oid`)
	if err != nil {
		return nil, fmt.Errorf("read functions: %w", err)
	}
	definitions, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read functions: %w", err)
	}
	return definitions, nil
}

// replaceFunctions drops our functions and views, and makes those of the definitions.
func replaceFunctions(ctx context.Context, conn *pgx.Conn, definitions []string) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		const dropAll = `
DO $$
DECLARE
    old record;
BEGIN
    FOR old IN SELECT c.oid::regclass AS name FROM pg_class AS c WHERE c.relnamespace = 'bbm'::regnamespace AND c.relkind = 'v' LOOP
        EXECUTE format('DROP VIEW %s', old.name);
    END LOOP;
    FOR old IN SELECT p.oid::regprocedure AS name FROM pg_proc AS p WHERE p.pronamespace = 'bbm'::regnamespace LOOP
        EXECUTE format('DROP FUNCTION %s', old.name);
    END LOOP;
END
$$`
		for _, sql := range append([]string{dropAll}, definitions...) {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return fmt.Errorf("replace functions: %w", err)
			}
		}
		return nil
	})
}
