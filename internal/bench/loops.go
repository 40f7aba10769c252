package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// loopSize is the rows of one transaction in the loops, and in bbm-runner's runs of a fixed size.
const loopSize = 1000

const updateAll = `UPDATE app.accounts AS a SET balance = a.balance + 1`

// procedure is the loop as one writes it on the server, for speed: by key, never by OFFSET from the start, and tenant by tenant, as row comparisons
// over several tenants would read each of them to its end.
func (l layout) procedure() string {
	tenant, firstTenant, nextTenant := "", "", "EXIT;"
	if l.tenants > 0 {
		tenant = "a.tenant_id = tenant AND "
		firstTenant = "SELECT min(a.tenant_id) INTO tenant FROM app.accounts AS a;"
		nextTenant = `SELECT min(a.tenant_id) INTO tenant FROM app.accounts AS a WHERE a.tenant_id > tenant;
            EXIT WHEN tenant IS NULL;
            low := '{start}';
            CONTINUE;`
	}
	return strings.NewReplacer(
		"{first tenant}", firstTenant, "{next tenant}", strings.ReplaceAll(nextTenant, "{start}", l.keyStart),
		"{tenant}", tenant, "{type}", l.keyType, "{start}", l.keyStart, "{update}", updateAll, "{skip}", fmt.Sprint(loopSize-1),
	).Replace(`CREATE OR REPLACE PROCEDURE app.add_to_all() LANGUAGE plpgsql AS $procedure$
DECLARE
    tenant integer;
    low {type} := '{start}';
    high {type};
BEGIN
    {first tenant}
    LOOP
        SELECT a.id INTO high FROM app.accounts AS a WHERE {tenant}a.id > low ORDER BY a.id OFFSET {skip} LIMIT 1;
        IF NOT FOUND THEN
            {update} WHERE {tenant}a.id > low;
            COMMIT;
            {next tenant}
        END IF;
        {update} WHERE {tenant}a.id > low AND a.id <= high;
        COMMIT;
        low := high;
    END LOOP;
END
$procedure$`)
}

// clientLoop is the loop as one writes it in Go: the same statements, a transaction per piece. What differs between its kinds is the session.
func (l layout) clientLoop(ctx context.Context, conn *pgx.Conn) error {
	if l.tenants == 0 {
		return l.clientLoopOver(ctx, conn, nil)
	}
	tenant := 0
	for {
		var next *int
		if err := conn.QueryRow(ctx, `SELECT min(a.tenant_id) FROM app.accounts AS a WHERE a.tenant_id > $1`, tenant).Scan(&next); err != nil {
			return err
		}
		if next == nil {
			return nil
		}
		tenant = *next
		if err := l.clientLoopOver(ctx, conn, []any{tenant}); err != nil {
			return err
		}
	}
}

// clientLoopOver is the loop over one tenant, or over all rows where there are none.
func (l layout) clientLoopOver(ctx context.Context, conn *pgx.Conn, tenant []any) error {
	where, n := "", len(tenant)
	if n > 0 {
		where = "a.tenant_id = $1 AND "
	}
	above := fmt.Sprintf("%sa.id > $%d::text::%s", where, n+1, l.keyType)
	within := fmt.Sprintf("%s AND a.id <= $%d::text::%s", above, n+2, l.keyType)
	boundary := fmt.Sprintf(`SELECT a.id::text FROM app.accounts AS a WHERE %s ORDER BY a.id OFFSET %d LIMIT 1`, above, loopSize-1)

	low := l.keyStart
	for {
		var high string
		err := conn.QueryRow(ctx, boundary, append(tenant[:n:n], low)...).Scan(&high)
		if errors.Is(err, pgx.ErrNoRows) {
			return commitOne(ctx, conn, updateAll+" WHERE "+above, append(tenant[:n:n], low)...)
		}
		if err != nil {
			return err
		}
		if err := commitOne(ctx, conn, updateAll+" WHERE "+within, append(tenant[:n:n], low, high)...); err != nil {
			return err
		}
		low = high
	}
}

func commitOne(ctx context.Context, conn *pgx.Conn, sql string, values ...any) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql, values...)
		return err
	})
}
