package plans_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/plans"
)

// A database of many tables has a large catalog: what looks a target up must not read it whole.
func TestALargeCatalogIsNotReadForATarget(t *testing.T) {
	t.Parallel()
	conn, queries := setup(t)
	var columns string
	err := conn.QueryRow(t.Context(), `SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
		WHERE attrelid = 'pg_class'::regclass AND attnum > 0 AND attname NOT IN ('oid', 'relname')`).Scan(&columns)
	require.NoError(t, err)
	// Rows that look like views, which nobody asks for: 100,000 tables would take a minute.
	_, err = conn.Exec(t.Context(), `INSERT INTO pg_class (oid, relname, `+columns+`)
		SELECT 1000000 + i, 'many_' || i, `+columns+`
		FROM pg_class AS c, generate_series(1, 100000) AS i WHERE c.oid = 'information_schema.tables'::regclass`)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `VACUUM (ANALYZE) pg_class`)
	require.NoError(t, err)
	for _, q := range queries {
		if !strings.HasPrefix(q.Name, "Target") {
			continue
		}
		tree, err := plans.ExplainTree(t.Context(), conn, q)
		require.NoError(t, err)
		for n := range tree.All() {
			assert.False(t, n.NodeType == "Seq Scan" && n.Relation == "pg_class", "%s reads pg_class whole", q.Name)
		}
	}
}
