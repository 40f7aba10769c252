package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// layout is a shape of the table app.accounts, in which every contender adds 1 to each balance: what is done twice, or not at all, shows.
type layout struct {
	name, description string
	keyType           string // of the last column of the key
	keyStart          string // below every key of that type
	keyValue          string // of row g
	tenants           int    // 0: the key is id alone; else it is tenant_id, id
	fillfactor        int
	indexed           bool // an index on the column that changes
	settings          map[string]string
}

// rowText pads a row to 120 bytes, its header included.
const rowText = `rpad(md5(g::text), 76, 'x')`

var bigintLayout = layout{
	name: "bigint", description: "key `id bigint`, pages full (fillfactor 100), no other index",
	keyType: "bigint", keyStart: "0", keyValue: "g", fillfactor: 100,
}

// variants are the other layouts, each changed in one respect.
func variants() []layout {
	composite, random, hot, indexed, spilled := bigintLayout, bigintLayout, bigintLayout, bigintLayout, bigintLayout
	composite.name, composite.description = "composite", "key `tenant_id integer, id bigint`, 50 tenants of equal size, stored tenant by tenant"
	composite.tenants = 50
	random.name, random.description = "uuid", "key `id uuid`, random: the rows of a range lie all over the table"
	random.keyType, random.keyStart, random.keyValue = "uuid", "00000000-0000-0000-0000-000000000000", "md5('k' || g)::uuid"
	hot.name, hot.description = "hot", "as bigint with fillfactor 45: new row versions fit into their page, and no index changes (HOT)"
	hot.fillfactor = 45
	indexed.name, indexed.description = "indexed", "as bigint with an index on the column that changes (never HOT)"
	indexed.indexed = true
	spilled.name, spilled.description = "spilled", "as bigint on a server with shared_buffers = 32MB, a fifth of the table (at a million rows)"
	spilled.settings = map[string]string{"shared_buffers": "32MB"}
	return []layout{composite, random, hot, indexed, spilled}
}

// cursor is the key as a work file writes it.
func (l layout) cursor() string {
	if l.tenants > 0 {
		return "tenant_id, id"
	}
	return "id"
}

// template makes the table that copies are restored from.
func (l layout) template(rows int) []string {
	tenant, value := "", ""
	if l.tenants > 0 {
		tenant = "tenant_id integer NOT NULL, "
		value = fmt.Sprintf("1 + (g - 1) * %d / %d, ", l.tenants, rows)
	}
	return []string{
		`DROP SCHEMA IF EXISTS app CASCADE`,
		`CREATE SCHEMA app`,
		fmt.Sprintf(`CREATE TABLE app.template (%sid %s NOT NULL, balance bigint NOT NULL, owner text NOT NULL) WITH (fillfactor = %d)`,
			tenant, l.keyType, l.fillfactor),
		fmt.Sprintf(`INSERT INTO app.template SELECT %s%s, 0, %s FROM generate_series(1::bigint, %d) AS g`, value, l.keyValue, rowText, rows),
		`VACUUM (FREEZE, ANALYZE) app.template`,
	}
}

// restore makes the table anew from the template's first rows, as every run finds it: stored in the template's order, its indexes built afterwards,
// all pages visible and frozen, in the server's memory as far as they fit, and on disk.
func (l layout) restore(ctx context.Context, conn *pgx.Conn, rows int) error {
	statements := []string{
		`DROP TABLE IF EXISTS app.accounts CASCADE`,
		fmt.Sprintf(`CREATE TABLE app.accounts (LIKE app.template) WITH (fillfactor = %d)`, l.fillfactor),
		fmt.Sprintf(`INSERT INTO app.accounts SELECT t.* FROM app.template AS t LIMIT %d`, rows),
		`ALTER TABLE app.accounts ADD CONSTRAINT accounts_pkey PRIMARY KEY (` + l.cursor() + `)`,
	}
	if l.indexed {
		statements = append(statements, `CREATE INDEX accounts_balance_idx ON app.accounts (balance)`)
	}
	statements = append(statements, `VACUUM (FREEZE, ANALYZE) app.accounts`, l.procedure(), `CHECKPOINT`)
	return execAll(ctx, conn, statements)
}

// prove fails unless every row has changed exactly once.
func (l layout) prove(ctx context.Context, conn *pgx.Conn, rows int) error {
	var once, all int
	err := conn.QueryRow(ctx, `SELECT count(*) FILTER (WHERE a.balance = 1), count(*) FROM app.accounts AS a`).Scan(&once, &all)
	if err != nil {
		return fmt.Errorf("count the changed rows: %w", err)
	}
	if once != rows || all != rows {
		return fmt.Errorf("of %d rows %d are there, and %d have changed exactly once", rows, all, once)
	}
	return nil
}

func execAll(ctx context.Context, conn *pgx.Conn, statements []string) error {
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			first, _, _ := strings.Cut(sql, "\n")
			return fmt.Errorf("%s: %w", first, err)
		}
	}
	return nil
}
