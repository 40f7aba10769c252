package runner_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/session"

	"github.com/jackc/pgx/v5"
)

// shadow makes a temporary table that is called like the target, as a function of a work may, and
// changes nothing else.
const shadow = `CREATE FUNCTION public.shadow() RETURNS integer LANGUAGE plpgsql AS $$ BEGIN
		CREATE TEMP TABLE IF NOT EXISTS items (LIKE public.items INCLUDING ALL);
		CREATE TEMP TABLE IF NOT EXISTS pg_stat_activity (pid integer);
		CREATE TEMP TABLE IF NOT EXISTS pg_locks (pid integer);
		RETURN 1;
	END $$`

func TestATemporaryTableDoesNotStandBeforeTheTarget(t *testing.T) {
	w := setup(t, 1000)
	w.exec(shadow)
	unqualified := strings.NewReplacer("public.items AS i", "items AS i", "n + 1", "n + public.shadow()", "table: public.items", "table: items").Replace(increment)
	w.enqueue("count", "public.items", 100, 10)
	require.NoError(t, w.runUntilIdle(parse(t, "count", unqualified)))
	w.eachOnce("count")
}

func TestASessionSearchesItsTemporaryTablesLast(t *testing.T) {
	t.Parallel()
	url := dbtest.New(t)
	config, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	conn, err := session.Connect(t.Context(), config, session.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	_, err = conn.Exec(t.Context(), "CREATE TEMP TABLE pg_class (oid oid)")
	require.NoError(t, err)
	var found string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT n.nspname::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = 'pg_class'::regclass").Scan(&found))
	assert.Equal(t, "pg_catalog", found)
}
