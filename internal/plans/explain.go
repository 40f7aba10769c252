package plans

import (
	"cmp"
	"context"
	"crypto/md5"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/session"
)

// plannerSettings are PostgreSQL's defaults, pinned so that a server's own settings do not change the plans. What the runner's session
// pins comes first; plan_cache_mode differs, as a reviewer reads the plan for any value: the generic one.
var plannerSettings = [][2]string{
	{"plan_cache_mode", "force_generic_plan"},
	{"seq_page_cost", "1"},
	{"random_page_cost", "4"},
	{"cpu_tuple_cost", "0.01"},
	{"cpu_index_tuple_cost", "0.005"},
	{"cpu_operator_cost", "0.0025"},
	{"parallel_setup_cost", "1000"},
	{"parallel_tuple_cost", "0.1"},
	{"min_parallel_table_scan_size", "8MB"},
	{"min_parallel_index_scan_size", "512kB"},
	{"max_parallel_workers_per_gather", "2"},
	{"effective_cache_size", "4GB"},
	{"effective_io_concurrency", "1"},
	{"work_mem", "4MB"},
	{"hash_mem_multiplier", "2"},
	{"default_statistics_target", "100"},
	{"constraint_exclusion", "partition"},
	{"cursor_tuple_fraction", "0.1"},
	{"from_collapse_limit", "8"},
	{"join_collapse_limit", "8"},
	{"enable_partitionwise_join", "off"},
	{"enable_partitionwise_aggregate", "off"},
	{"geqo", "on"},
}

// Connect opens a session that plans as the committed plans were planned.
func Connect(ctx context.Context, url string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	conn, err := session.Connect(ctx, config, session.Config{})
	if err != nil {
		return nil, err
	}
	var set strings.Builder
	for _, s := range plannerSettings {
		fmt.Fprintf(&set, "SET %s = '%s';", s[0], s[1])
	}
	if _, err := conn.Exec(ctx, set.String()); err != nil {
		return nil, errors.Join(fmt.Errorf("pin planner settings: %w", err), conn.Close(ctx))
	}
	return conn, nil
}

// Explain returns the generic plan of a query as text, without costs. It is not executed.
func Explain(ctx context.Context, conn *pgx.Conn, q Query) (string, error) {
	rows, err := explain(ctx, conn, q, "COSTS OFF", anyValues)
	if err != nil {
		return "", err
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return "", fmt.Errorf("explain %s: %w", q.Name, err)
	}
	return strings.Join(lines, "\n") + "\n", nil
}

// ExplainTree returns the same plan as a tree.
func ExplainTree(ctx context.Context, conn *pgx.Conn, q Query) (*Node, error) {
	return explainTree(ctx, conn, q, anyValues)
}

// ExplainHeavy returns the plan for the heavy migration's own values, as a tree: the one that a session makes as long as it has not
// settled for the generic plan.
func ExplainHeavy(ctx context.Context, conn *pgx.Conn, q Query) (_ *Node, err error) {
	if _, err := conn.Exec(ctx, "SET plan_cache_mode = force_custom_plan"); err != nil {
		return nil, fmt.Errorf("plan for values: %w", err)
	}
	defer func() {
		_, resetErr := conn.Exec(context.WithoutCancel(ctx), "SET plan_cache_mode = force_generic_plan")
		err = errors.Join(err, resetErr)
	}()
	id, name := strconv.Itoa(Large.heavy()), HeavyName(Large)
	return explainTree(ctx, conn, q, map[string]string{
		"bigint": id, "integer": "100", "oid": "100000", "boolean": "false", "interval": "'1 minute'", "jsonb": "'{}'",
		"timestamp with time zone": "'" + firstMonth + "'", "text": "'" + name + "'",
		"text[]":   "ARRAY['" + name + "', 'work_0:" + fmt.Sprintf("%x", md5.Sum([]byte("0"))) + "']",
		"bigint[]": "ARRAY[" + id + "]", "bbm.job_status": "'failed'", "bbm.migration_failure_code": "'invalid_work'",
	})
}

// anyValues do for a generic plan, which does not depend on them. But EXPLAIN leaves out the partitions that they rule out: times stand
// before all months. What is not named is NULL.
var anyValues = map[string]string{"timestamp with time zone": "'-infinity'"}

func explainTree(ctx context.Context, conn *pgx.Conn, q Query, values map[string]string) (*Node, error) {
	rows, err := explain(ctx, conn, q, "COSTS OFF, FORMAT JSON", values)
	if err != nil {
		return nil, err
	}
	text, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("explain %s: %w", q.Name, err)
	}
	var plans []struct{ Plan *Node }
	if err := json.Unmarshal([]byte(text), &plans); err != nil {
		return nil, fmt.Errorf("explain %s: read the plan: %w", q.Name, err)
	}
	return plans[0].Plan, nil
}

// explain prepares the query under its name and explains its execution with values by type.
func explain(ctx context.Context, conn *pgx.Conn, q Query, options string, values map[string]string) (pgx.Rows, error) {
	name := strings.ToLower(q.Name)
	prepared, err := conn.Prepare(ctx, name, q.Text)
	if err != nil {
		return nil, fmt.Errorf("prepare %s: %w", q.Name, err)
	}
	types, err := typeNames(ctx, conn, prepared.ParamOIDs)
	if err != nil {
		return nil, err
	}
	arguments := make([]string, len(types))
	for i, t := range types {
		arguments[i] = cmp.Or(values[t], "NULL")
	}
	list := ""
	if len(arguments) > 0 {
		list = "(" + strings.Join(arguments, ", ") + ")"
	}
	rows, err := conn.Query(ctx, fmt.Sprintf("EXPLAIN (%s) EXECUTE %s%s", options, name, list), pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, fmt.Errorf("explain %s: %w", q.Name, err)
	}
	return rows, nil
}

func typeNames(ctx context.Context, conn *pgx.Conn, oids []uint32) ([]string, error) {
	rows, err := conn.Query(ctx, "SELECT format_type(t.oid, NULL) FROM unnest($1::oid[]) WITH ORDINALITY AS t (oid, position) ORDER BY t.position", oids)
	if err != nil {
		return nil, fmt.Errorf("name types: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("name types: %w", err)
	}
	return names, nil
}
