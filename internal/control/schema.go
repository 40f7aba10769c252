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
	version, err := queries.SchemaVersion(ctx, c.Conn)
	var fault *pgconn.PgError
	switch {
	case isMissing(err):
		version = 0
	case errors.As(err, &fault) && fault.Code == insufficientPrivilege:
		return inputf("this role may not use the tables of bbm-runner: %s; %s", fault.Message,
			c.grant("bbm_viewer (to look), bbm_operator (to act) or bbm_runner (to run)"))
	case err != nil:
		return fmt.Errorf("read the version of the schema: %w", err)
	}
	if err = schema.CheckVersion(version); errors.Is(err, schema.ErrVersion) {
		return inputf("%s", err)
	}
	return err
}
