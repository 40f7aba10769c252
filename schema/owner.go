package schema

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// checkOwner refuses a role that would leave functions which act with its rights over tables that
// belong to another: whoever owns the tables makes triggers on them, and a trigger would have those
// rights. The roles are not switched here, since such a trigger could switch them back.
func checkOwner(ctx context.Context, conn *sql.Conn) error {
	var role, tables, owner string
	var over bool
	err := conn.QueryRowContext(ctx, `
		SELECT
			current_user::text,
			coalesce(pg_get_userbyid(c.relowner), current_user)::text,
			pg_get_userbyid(n.nspowner)::text,
			-- The owner of the schema can put tables of its own in place of ours.
			a.rolsuper AND NOT o.rolsuper
		FROM pg_namespace AS n
		JOIN pg_roles AS a ON a.rolname = current_user
		JOIN pg_roles AS o ON o.oid = n.nspowner
		LEFT JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = 'goose_db_version'
		WHERE n.nspname = 'bbm'`).Scan(&role, &tables, &owner, &over)
	if err != nil {
		return fmt.Errorf("look for the owner of the schema bbm: %w", err)
	}
	if tables == role && over {
		tables = owner
	}
	if tables != role {
		name := pgx.Identifier{tables}.Sanitize()
		return fmt.Errorf("the schema bbm or its tables belong to the role %s, and this one is %s: what it makes there would lend its rights to that one; "+
			"connect as %s (or as a member of it that is no superuser, after SET ROLE %s, as by options=-crole=… in the URL)",
			name, pgx.Identifier{role}.Sanitize(), name, name)
	}
	return nil
}
