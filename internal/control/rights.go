package control

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// CheckRunnerRights returns an [*InputError] when this role lacks a right on our tables or functions that running migrations takes: said at once, and
// not by a log in which every step fails.
func (c *Control) CheckRunnerRights(ctx context.Context) error {
	missing, err := queries.RightListMissing(ctx, c.Conn)
	if err != nil {
		return fmt.Errorf("look for missing rights: %w", err)
	}
	if len(missing) == 0 {
		return nil
	}
	return inputf("this role may not run migrations, since it lacks %s; %s", strings.Join(missing, ", "), c.grant("bbm_runner"))
}

// aboutOurs tells a right on our own objects from one on the application's, which no role of ours has.
var aboutOurs = regexp.MustCompile(`for (?:schema bbm|view status|(?:partitioned )?table (?:batched_background_migration\w*|fleet_settings|setting_changes|goose_db_version)|function (?:enqueue|enable|disable|pause|resume|cancel|retry|set|set_fleet|changed_by|maintain_log|maintain_log_partitions|forget_jobs|assert_\w+|work_lock_key|open_transactions|still_awaited))$`)

// ExplainRights turns an error about a right that this role lacks on our own tables into an [*InputError] that names the role of docs/roles.sql which has
// it. Other errors are returned as they are.
func (c *Control) ExplainRights(err error, role string) error {
	var refused *pgconn.PgError
	var known *InputError
	if errors.As(err, &known) || !errors.As(err, &refused) || refused.Code != insufficientPrivilege || !aboutOurs.MatchString(refused.Message) {
		return err
	}
	return inputf("%s; %s", refused.Message, c.grant(role))
}

// grant says how a right is given. Who connected is known without a query, which an aborted transaction would refuse.
func (c *Control) grant(role string) string {
	return fmt.Sprintf("an administrator may GRANT %s TO %s (see docs/roles.sql)", role, pgx.Identifier{c.Conn.Config().User}.Sanitize())
}
