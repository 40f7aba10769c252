package schema_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/schema"
)

// Functions that act with their owner's rights would lend a superuser's to whoever owns the tables,
// by a trigger.
func TestNobodyButTheOwnerGoesUpOrDown(t *testing.T) {
	t.Parallel()
	name, in := role(t)
	w := connected(t, dbtest.NewEmpty(t))
	superuser, err := pgx.ParseConfig(w.url)
	require.NoError(t, err)
	refused := func() {
		t.Helper()
		_, err := schema.Up(t.Context(), superuser)
		require.ErrorContains(t, err, fmt.Sprintf(`belong to the role "%s"`, name))
		require.ErrorContains(t, err, "SET ROLE")
		_, err = schema.Down(t.Context(), superuser)
		require.ErrorContains(t, err, "belong to the role")
	}
	w.exec(`CREATE SCHEMA bbm AUTHORIZATION ` + name)
	refused() // where there are no tables yet
	require.Equal(t, files(t), up(t, in(w.url)))
	refused()
	w.exec(`ALTER SCHEMA bbm OWNER TO CURRENT_USER`)
	w.exec(`GRANT USAGE, CREATE ON SCHEMA bbm TO ` + name)
	refused() // the tables are another's still
	require.Equal(t, []string{name}, list[string](w, `SELECT DISTINCT proowner::regrole::text FROM pg_proc WHERE pronamespace = 'bbm'::regnamespace`))
	require.NotEmpty(t, down(t, in(w.url)))
}
