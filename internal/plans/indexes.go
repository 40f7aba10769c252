package plans

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// withoutIndexes drops the keys and indexes of the tables, loads, and makes them again as they were: an index that is built whole takes a
// fraction of the time, and a foreign key that is checked whole too.
func withoutIndexes(ctx context.Context, tx pgx.Tx, tables []string, load func() error) error {
	rows, err := tx.Query(ctx, indexDefinitions, tables)
	if err != nil {
		return fmt.Errorf("read indexes: %w", err)
	}
	type definition struct{ Drop, Make string }
	definitions, err := pgx.CollectRows(rows, pgx.RowToStructByPos[definition])
	if err != nil {
		return fmt.Errorf("read indexes: %w", err)
	}
	// Foreign keys stand last: they need the key that they refer to.
	for _, d := range slices.Backward(definitions) {
		if _, err := tx.Exec(ctx, d.Drop); err != nil {
			return fmt.Errorf("%s: %w", d.Drop, err)
		}
	}
	// What is made or emptied in the transaction that fills it needs no write-ahead log, where wal_level is minimal.
	for _, table := range tables {
		if _, err := tx.Exec(ctx, "TRUNCATE "+pgx.Identifier{"bbm", table}.Sanitize()); err != nil {
			return fmt.Errorf("empty %s: %w", table, err)
		}
	}
	if err := load(); err != nil {
		return err
	}
	for _, d := range definitions {
		if _, err := tx.Exec(ctx, d.Make); err != nil {
			return fmt.Errorf("%s: %w", d.Make, err)
		}
	}
	return nil
}

// pg_get_indexdef writes a partitioned index as one without its parts: ON ONLY.
const indexDefinitions = `
SELECT d.drop, d.make
FROM (
    SELECT
        CASE c.contype WHEN 'p' THEN 1 ELSE 3 END AS step,
        c.conname AS name,
        format('ALTER TABLE %s DROP CONSTRAINT %I', c.conrelid::regclass, c.conname) AS drop,
        format('ALTER TABLE %s ADD CONSTRAINT %I %s', c.conrelid::regclass, c.conname, pg_get_constraintdef(c.oid)) AS make
    FROM pg_catalog.pg_constraint AS c
    JOIN pg_catalog.pg_class AS t ON t.oid = c.conrelid
    WHERE t.relname = ANY ($1::text[])
      AND t.relnamespace = 'bbm'::regnamespace
      AND c.contype IN ('p', 'f')
    UNION ALL
    SELECT 2, n.relname, format('DROP INDEX %s', i.indexrelid::regclass), replace(pg_get_indexdef(i.indexrelid), ' ON ONLY ', ' ON ')
    FROM pg_catalog.pg_index AS i
    JOIN pg_catalog.pg_class AS n ON n.oid = i.indexrelid
    JOIN pg_catalog.pg_class AS t ON t.oid = i.indrelid
    WHERE t.relname = ANY ($1::text[])
      AND t.relnamespace = 'bbm'::regnamespace
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS c WHERE c.conindid = i.indexrelid AND c.contype IN ('p', 'u'))
) AS d
ORDER BY d.step, d.name`
