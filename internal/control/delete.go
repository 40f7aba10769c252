package control

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// SQLSTATEs of a database that lacks our tables, and of a role that may not use them.
const (
	undefinedTable        = "42P01"
	invalidSchemaName     = "3F000"
	insufficientPrivilege = "42501"
)

// Names returns the names of the migrations in one of the statuses, oldest first; of all when none is given. An unknown status is an
// [*InputError].
func (c *Control) Names(ctx context.Context, statuses ...string) ([]string, error) {
	for _, status := range statuses {
		if !dbgen.MigrationStatus(status).Valid() {
			return nil, inputf("unknown status %q; give paused, active, running, finished, failed or cancelled", status)
		}
	}
	if statuses == nil {
		statuses = []string{}
	}
	names, err := queries.MigrationListNames(ctx, c.Conn, statuses)
	if err != nil {
		return nil, fmt.Errorf("list the migrations: %w", err)
	}
	return names, nil
}

// Unfinished returns the names of the migrations that are neither finished nor cancelled; none where our tables are not there.
func (c *Control) Unfinished(ctx context.Context) ([]string, error) {
	names, err := c.Names(ctx, string(paused), string(active), string(running), string(failed))
	if isMissing(err) {
		return nil, nil
	}
	return names, err
}

// Delete forgets a finished or cancelled migration with its jobs and its history. Another status, and a job that still runs, is an
// [*InputError].
func (c *Control) Delete(ctx context.Context, name string) error {
	return c.locked(ctx, name, func(tx pgx.Tx, m dbgen.Migration) error {
		if m.Status != finished && m.Status != cancelled {
			return inputf("migration %q is %s; only a finished or cancelled one can be deleted (see: bbm-runner cancel %s)", name, m.Status, name)
		}
		deleted, err := queries.MigrationDelete(ctx, tx, m.ID)
		if err == nil && deleted == 0 {
			return inputf("a job of migration %q is still running; try again when it has stopped", name)
		}
		return wrap(err, "delete", name)
	})
}

// isMissing reports whether a statement has failed because our tables are not there.
func isMissing(err error) bool {
	var fault *pgconn.PgError
	return errors.As(err, &fault) && (fault.Code == undefinedTable || fault.Code == invalidSchemaName)
}
