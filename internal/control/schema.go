package control

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/bbm-runner/bbm-runner/schema"
)

// CheckSchema returns an [*InputError] with the command that mends it when our tables are missing, or of another version than this program
// is made for.
func (c *Control) CheckSchema(ctx context.Context) error {
	wanted, err := schema.Latest()
	if err != nil {
		return fmt.Errorf("read the embedded schema: %w", err)
	}
	version, err := queries.SchemaVersion(ctx, c.Conn)
	var fault *pgconn.PgError
	switch {
	case isMissing(err), err == nil && version == 0:
		return inputf("this database lacks the tables of bbm-runner; run: bbm-runner schema up")
	case errors.As(err, &fault) && fault.Code == insufficientPrivilege:
		return inputf("this role may not use the tables of bbm-runner: %s; see docs/operations.md for the rights that it needs", fault.Message)
	case err != nil:
		return fmt.Errorf("read the version of the schema: %w", err)
	case version < wanted:
		return inputf("the tables of bbm-runner are at version %d, and this program needs %d; run: bbm-runner schema up", version, wanted)
	case version > wanted:
		return inputf("the tables of bbm-runner are at version %d, newer than the %d of this program; install a newer bbm-runner", version, wanted)
	}
	return nil
}
