package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/control"
	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

// staff is a world with the roles of docs/roles.sql, and one that has none of their rights. Roles belong to the server, so theirs have names of their own.
type staff struct {
	*world
	suffix string
}

func setupRoles(t *testing.T) *staff {
	t.Helper()
	s := &staff{suffix: fmt.Sprintf("%d_%d", os.Getpid(), time.Now().UnixNano())}
	keeper := dbtest.Connect(t, dbtest.NewEmpty(t))
	// Dropped behind the world's database, in which they have rights.
	t.Cleanup(func() {
		for _, role := range []string{"runner", "operator", "viewer", "nobody"} {
			_, err := keeper.Exec(context.Background(), `DROP ROLE IF EXISTS `+s.name(role))
			assert.NoError(t, err)
		}
	})
	s.world = setup(t)
	s.script("../../docs/roles.sql")
	s.script("../../docs/roles.sql") // it may be repeated
	s.exec(`CREATE ROLE ` + s.name("nobody"))
	for _, role := range []string{"viewer", "operator", "runner", "nobody"} {
		s.exec(fmt.Sprintf(`ALTER ROLE %s LOGIN PASSWORD 'secret'`, s.name(role)))
	}
	return s
}

func (s *staff) name(role string) string { return "bbm_" + role + "_" + s.suffix }

// script runs a file as psql would, as far as ours go: \gexec executes what a query returns.
func (s *staff) script(path string) {
	s.t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(s.t, err)
	text := string(content)
	for _, role := range []string{"viewer", "operator", "runner"} {
		text = strings.ReplaceAll(text, "bbm_"+role, s.name(role))
	}
	pieces := strings.Split(text, `\gexec`)
	for i, piece := range pieces {
		if i == len(pieces)-1 {
			s.exec(piece)
			break
		}
		// The query is the piece's last statement, on a line of its own.
		at := max(strings.LastIndex(piece, "\nSELECT ")+1, 0)
		before, query := piece[:at], piece[at:]
		s.exec(before)
		rows, err := s.conn.Query(s.t.Context(), query)
		require.NoError(s.t, err)
		made, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(s.t, err)
		for _, statement := range made {
			s.exec(statement)
		}
	}
}

// as is the world of a role: its commands connect as it.
func (s *staff) as(role string) *world {
	s.t.Helper()
	u, err := url.Parse(s.url)
	require.NoError(s.t, err)
	u.User = url.UserPassword(s.name(role), "secret")
	other := *s.world
	other.url = u.String()
	return &other
}

// mayNot tries statements as a role, one by one.
func (s *staff) mayNot(role string, statements ...string) {
	s.t.Helper()
	conn := dbtest.Connect(s.t, s.as(role).url)
	for _, statement := range statements {
		_, err := conn.Exec(s.t.Context(), statement)
		var refused *pgconn.PgError
		require.ErrorAs(s.t, err, &refused, "%s may %s", role, statement)
		require.Equal(s.t, "42501", refused.Code, "%s: %v", statement, err)
	}
}

// wholeSchema is what only the owner of the schema may do.
var wholeSchema = []string{
	`CREATE TABLE bbm.mine (id int)`, `CREATE FUNCTION bbm.mine() RETURNS int LANGUAGE sql RETURN 1`, `DROP TABLE bbm.fleet_settings`,
	`ALTER TABLE bbm.batched_background_migrations ADD COLUMN mine int`, `TRUNCATE bbm.batched_background_migration_jobs`,
	`CREATE TRIGGER mine BEFORE INSERT ON bbm.batched_background_migrations EXECUTE FUNCTION suppress_redundant_updates_trigger()`,
	`ALTER FUNCTION bbm.maintain_log(integer) RESET search_path`, `SELECT bbm.maintain_log_partitions('0', '2100-01-01')`,
	`UPDATE bbm.batched_background_migration_job_transition_logs SET attempt = 0`, `DELETE FROM bbm.batched_background_migration_job_transition_logs`,
	`UPDATE bbm.batched_background_migration_transition_logs SET reason = ''`, `DELETE FROM bbm.batched_background_migration_transition_logs`,
	`UPDATE bbm.setting_changes SET reason = ''`, `DELETE FROM bbm.setting_changes`, `TRUNCATE bbm.setting_changes`,
	`INSERT INTO bbm.setting_changes (setting, changed_by) VALUES ('slots', 'somebody')`,
	`TRUNCATE bbm.batched_background_migration_job_transition_logs`, `TRUNCATE bbm.batched_background_migrations CASCADE`,
	`UPDATE bbm.fleet_settings SET execution_enabled = true`,
	`UPDATE bbm.goose_db_version SET version_id = 0`,
	// Whose session it was, and the order, are the database's to say.
	`INSERT INTO bbm.batched_background_migration_transition_logs (batched_background_migration_id, next_status, changed_by, session_role)
		SELECT id, 'active', 'somebody', 'postgres' FROM bbm.batched_background_migrations`,
	`INSERT INTO bbm.batched_background_migration_transition_logs (id, batched_background_migration_id, next_status, changed_by) OVERRIDING SYSTEM VALUE
		SELECT 1, id, 'active', 'somebody' FROM bbm.batched_background_migrations`,
	`INSERT INTO bbm.batched_background_migration_job_transition_logs (id, batched_background_migration_job_id, next_status, attempt) OVERRIDING SYSTEM VALUE
		SELECT 1, id, 'pending', 1 FROM bbm.batched_background_migration_jobs`,
}

func TestAViewerLooksAndDoesNothingElse(t *testing.T) {
	s := setupRoles(t)
	s.ok("enqueue", "increment", "--name", "done")
	s.ok("run", "--until-idle")
	s.ok("enqueue", "increment", "--paused")
	viewer := s.as("viewer")
	for _, args := range [][]string{
		{"status"}, {"status", "done"}, {"status", "--json"}, {"status", "done", "--watch"}, {"jobs", "done"}, {"logs", "done"}, {"logs", "done", "--json"},
		{"wait", "done"}, {"schema", "status"}, {"quarantine", "list", "done"},
	} {
		require.Contains(t, viewer.ok(args...)+"done", "done", args)
	}
	_, err := dbtest.Connect(t, viewer.url).Exec(t.Context(), `SELECT bbm.assert_finished('done')`)
	require.NoError(t, err)

	grant := func(role string) string {
		return fmt.Sprintf(`GRANT %s TO "%s" (see docs/roles.sql)`, role, s.name("viewer"))
	}
	for _, args := range [][]string{
		{"pause", "increment"}, {"resume", "increment"}, {"cancel", "increment"}, {"cancel", "--all"}, {"set", "increment", "pause=1s"},
		{"set", "--fleet", "slots=2"}, {"enable"}, {"disable", "--reason", "r"}, {"delete", "done"},
	} {
		line := viewer.refused(args...)
		assert.Regexp(t, "permission denied for (table|function) ", line, args)
		assert.Contains(t, line, grant("bbm_operator"), args)
	}
	line := viewer.refused("run", "--until-idle")
	assert.Contains(t, line, "may not run migrations, since it lacks UPDATE ON bbm.batched_background_migrations, ")
	assert.Contains(t, line, grant("bbm_runner"))
	assert.Contains(t, viewer.refused("enqueue", "increment", "--name", "new"), "permission denied for schema app")
	s.exec(fmt.Sprintf(`GRANT USAGE ON SCHEMA app TO %[1]s; GRANT SELECT, UPDATE ON app.items TO %[1]s`, s.name("viewer")))
	line = viewer.refused("enqueue", "increment", "--name", "new")
	assert.Contains(t, line, "permission denied")
	assert.Contains(t, line, grant("bbm_operator"))
	s.mayNot("viewer", `SELECT bbm.pause('increment')`, `SELECT bbm.resume('increment')`, `SELECT bbm.cancel('increment')`, `SELECT bbm.retry('increment')`,
		`SELECT bbm.disable('no')`)
	s.mayNot("viewer", append(wholeSchema, `SELECT bbm.enqueue('increment', 'app.items')`, `SELECT bbm.maintain_log(6)`, `SELECT bbm.assert_fence(true)`)...)
	dbtest.CheckHistory(t, s.conn, "done")
}

func TestAnOperatorActsWithoutRightsOnTheApplicationsTables(t *testing.T) {
	s := setupRoles(t)
	s.file("divide", divide)
	s.ok("enqueue", "divide", "--max-attempts", "1")
	require.Equal(t, exitFailed, s.run("run", "--until-idle").code)
	s.ok("enqueue", "increment", "--paused")
	operator := s.as("operator")
	for _, args := range [][]string{
		{"status"}, {"resume", "increment"}, {"pause", "increment", "--reason", "r"}, {"set", "increment", "pause=1s", "sub_batch_size=5"},
		{"retry", "divide"}, {"cancel", "divide"}, {"delete", "divide"}, {"set", "--fleet", "slots=2"}, {"disable", "--reason", "r"}, {"enable"},
	} {
		operator.ok(args...)
	}
	bySQL := dbtest.Connect(t, operator.url)
	for _, statement := range []string{
		`SELECT bbm.pause('increment', 'by SQL')`, `SELECT bbm.resume('increment')`, `SELECT bbm.disable('by SQL')`, `SELECT bbm.enable()`,
	} {
		_, err := bySQL.Exec(t.Context(), statement)
		require.NoError(t, err, statement)
	}
	s.mayNot("operator", append(wholeSchema, `SELECT FROM app.items`, `UPDATE app.items SET n = 1`, `SELECT bbm.maintain_log(6)`)...)
	assert.Contains(t, operator.refused("run"), fmt.Sprintf(`GRANT bbm_runner TO "%s"`, s.name("operator")))

	// What enqueue takes beside: the rights to do what the work does. bbm.enqueue takes the right to look.
	assert.Contains(t, operator.refused("enqueue", "increment", "--name", "new"), "permission denied for schema app; GRANT USAGE ON SCHEMA app")
	s.exec(`GRANT USAGE ON SCHEMA app TO ` + s.name("operator"))
	assert.Contains(t, operator.refused("enqueue", "increment", "--name", "new"), "permission denied for table items")
	s.mayNot("operator", `SELECT bbm.enqueue('increment', 'app.items', 'from_sql')`)
	s.exec(`GRANT SELECT ON app.items TO ` + s.name("operator"))
	_, err := dbtest.Connect(t, operator.url).Exec(t.Context(), `SELECT bbm.enqueue('increment', 'app.items', 'from_sql')`)
	require.NoError(t, err)
	assert.Contains(t, operator.refused("enqueue", "increment", "--name", "new"), "permission denied for table items")
	s.exec(`GRANT UPDATE (n) ON app.items TO ` + s.name("operator"))
	assert.Equal(t, "new\n", operator.ok("enqueue", "increment", "--name", "new"))
	dbtest.CheckHistory(t, s.conn, "increment")

	// Whatever it says of itself, the history has its role, and why.
	operator.ok("set", "increment", "pause=2s", "--reason", "replica lag")
	operator.ok("set", "--fleet", "slots=3", "--reason", "the night")
	role := s.name("operator")
	assert.Regexp(t, ` 00:00:01 +00:00:02 +pause set by .+ as `+role+`: replica lag\n`, s.ok("logs", "increment"))
	assert.Regexp(t, `by .+ as `+role+`: r\n`, s.ok("logs", "increment", "--migration"))
	assert.Regexp(t, `(?s)slots +1 +2 +by .*execution_enabled +true +false +by .+ as `+role+`: r\n.*execution_enabled +false +true .*slots +2 +3 .* as `+role+`: the night\n`, s.ok("logs", "--fleet"))
	var changes []control.SettingChange
	require.NoError(t, json.Unmarshal([]byte(s.ok("logs", "increment", "--settings", "--json")), &changes))
	last := changes[len(changes)-1]
	assert.Equal(t, []string{"pause", "00:00:01", "00:00:02", role, "replica lag"}, []string{last.Setting, *last.OldValue, *last.NewValue, last.SessionRole, *last.Reason})
	require.NoError(t, json.Unmarshal([]byte(s.ok("logs", "--fleet", "--json")), &changes))
	assert.Nil(t, changes[0].MigrationID)
}

func TestARunnerRunsWithRightsOnItsTargetsAndCannotChangeTheSchema(t *testing.T) {
	s := setupRoles(t)
	s.ok("enqueue", "increment", "--batch-size", "40", "--sub-batch-size", "10")
	s.exec(`CREATE TABLE app.closed (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0)`)
	s.exec(`INSERT INTO app.closed SELECT 1`)
	s.file("closed", strings.ReplaceAll(increment, "app.items", "app.closed"))
	s.ok("enqueue", "closed")
	s.exec(fmt.Sprintf(`GRANT USAGE ON SCHEMA app TO %[1]s; GRANT SELECT, UPDATE (n) ON app.items TO %[1]s`, s.name("runner")))

	r := s.as("runner").run("run", "--until-idle")
	require.Equal(t, exitFailed, r.code, r.stderr)
	assert.Contains(t, r.stderr, "bbm-runner: failed: closed\n")
	assert.Equal(t, int64(100), one[int64](s.world, "SELECT count(*) FROM app.items WHERE n = 1"))
	assert.Contains(t, s.ok("status", "closed"), "permission denied for table closed")
	assert.Contains(t, s.ok("status", "increment"), "finished")
	for _, name := range []string{"increment", "closed"} {
		dbtest.CheckHistory(t, s.conn, name)
	}
	s.mayNot("runner", append(wholeSchema, `DELETE FROM bbm.batched_background_migrations`, `DELETE FROM bbm.batched_background_migration_jobs`, `UPDATE bbm.fleet_settings SET slots = 9`,
		`UPDATE bbm.batched_background_migration_jobs SET batched_background_migration_id = 1`, `UPDATE bbm.batched_background_migrations SET name = 'mine'`,
		`SELECT bbm.enqueue('increment', 'app.items')`, `SELECT FROM app.closed`, `DELETE FROM app.items`,
		`SELECT bbm.enable()`, `SELECT bbm.set_fleet('slots', '9')`, `SELECT bbm.set('increment', 'pause', '1s')`,
		`SELECT bbm.disable('no')`, `SELECT bbm.pause('increment')`, `SELECT bbm.resume('increment')`, `SELECT bbm.cancel('increment')`, `SELECT bbm.retry('increment')`)...)

	// It makes and drops months, but no call of it empties the history.
	before := one[int64](s.world, "SELECT count(*) FROM bbm.batched_background_migration_job_transition_logs")
	require.Positive(t, before)
	conn := dbtest.Connect(t, s.as("runner").url)
	for _, months := range []string{"-1", "0", "1", "2147483647"} {
		_, _ = conn.Exec(t.Context(), "SELECT bbm.maintain_log("+months+")")
		// Nor by making a migration look as if it had ended long ago: its own history says when it was
		// changed last.
		_, err := conn.Exec(t.Context(), `UPDATE bbm.batched_background_migrations SET updated_at = '2000-01-01', finished_at = finished_at - interval '20 years'`)
		require.NoError(t, err)
		_, _ = conn.Exec(t.Context(), "SELECT bbm.forget_jobs("+months+")")
	}
	assert.Equal(t, before, one[int64](s.world, "SELECT count(*) FROM bbm.batched_background_migration_job_transition_logs"))
}

func TestPublicHasNothing(t *testing.T) {
	s := setupRoles(t)
	line := s.as("nobody").refused("status")
	assert.Contains(t, line, "permission denied for schema bbm")
	assert.Contains(t, line, fmt.Sprintf(`GRANT bbm_viewer (to look), bbm_operator (to act) or bbm_runner (to run) TO "%s"`, s.name("nobody")))
	s.exec(`GRANT USAGE ON SCHEMA bbm TO ` + s.name("nobody")) // so that each object has to defend itself
	rows, err := s.conn.Query(t.Context(), `
		SELECT format('SELECT FROM %s', oid::regclass) FROM pg_class WHERE relnamespace = 'bbm'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
		UNION ALL
		SELECT format('SELECT %s(%s)', oid::regproc, array_to_string(ARRAY(SELECT 'NULL::' || format_type(a, NULL) FROM unnest(proargtypes) AS a), ', '))
		FROM pg_proc WHERE pronamespace = 'bbm'::regnamespace`)
	require.NoError(t, err)
	statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Greater(t, len(statements), 10)
	s.mayNot("nobody", statements...)
}

// A table that a later version brings must not be forgotten in docs/roles.sql.
func TestEveryTableIsGranted(t *testing.T) {
	s := setupRoles(t)
	lacking := func(role, right string) []string {
		rows, err := s.conn.Query(t.Context(), `
			SELECT c.relname::text FROM pg_class AS c
			WHERE c.relnamespace = 'bbm'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
			  AND NOT has_table_privilege($1::name, c.oid, $2)
			  -- Of some tables a role may write some columns alone.
			  AND NOT (strpos($2, 'INSERT') > 0 AND has_any_column_privilege($1::name, c.oid, 'INSERT, UPDATE'))
			ORDER BY c.relname`, s.name(role), right)
		require.NoError(t, err)
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		return names
	}
	for _, role := range []string{"viewer", "operator", "runner"} {
		assert.Empty(t, lacking(role, "SELECT"), role)
	}
	assert.Equal(t, []string{"fleet_settings", "goose_db_version", "setting_changes"}, lacking("runner", "INSERT, UPDATE"), "a table that no runner writes to stands here")
	assert.Len(t, lacking("viewer", "INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER"), len(lacking("nobody", "SELECT")), "a viewer writes nowhere")

	s.exec(`CREATE TABLE bbm.of_a_later_version (id int)`)
	assert.Empty(t, lacking("viewer", "SELECT"))
	assert.Contains(t, lacking("runner", "INSERT, UPDATE"), "of_a_later_version")
}
