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

// deletePageSize is how many jobs one transaction of a delete forgets: some hundred milliseconds of
// work.
const deletePageSize = 5_000

// Delete forgets a finished or cancelled migration with its jobs and its history, in several
// transactions where it has many jobs: one that was interrupted is taken up again by another call.
// Another status, and a job that a runner still executes, is an [*InputError].
func (c *Control) Delete(ctx context.Context, name string) error {
	for isGone := false; !isGone; {
		err := c.locked(ctx, name, func(tx pgx.Tx, m dbgen.Migration) (err error) {
			isGone, err = c.deletePage(ctx, tx, m)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// deletePage forgets a page of the jobs, or the migration itself where none is left.
func (c *Control) deletePage(ctx context.Context, tx pgx.Tx, m dbgen.Migration) (isGone bool, err error) {
	if m.Status != finished && m.Status != cancelled {
		return false, inputf("migration %q is %s; only a finished or cancelled one can be deleted (see: bbm-runner cancel %s)", m.Name, m.Status, m.Name)
	}
	executing, err := queries.JobListExecuting(ctx, tx, m.ID)
	if err != nil {
		return false, wrap(err, "look for running jobs of", m.Name)
	}
	if len(executing) > 0 {
		return false, inputf("a job of migration %q is still running; try again when it has stopped", m.Name)
	}
	jobs, err := queries.JobDelete(ctx, tx, dbgen.JobDeleteParams{MigrationID: m.ID, PageSize: deletePageSize})
	if err != nil || jobs == deletePageSize {
		return false, wrap(err, "delete jobs of", m.Name)
	}
	_, err = queries.MigrationDelete(ctx, tx, m.ID)
	return true, wrap(err, "delete", m.Name)
}

// isMissing reports whether a statement has failed because our tables are not there.
func isMissing(err error) bool {
	var fault *pgconn.PgError
	return errors.As(err, &fault) && (fault.Code == undefinedTable || fault.Code == invalidSchemaName)
}
