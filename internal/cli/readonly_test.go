package cli

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCommandsTellThatTheDatabaseIsReadOnly(t *testing.T) {
	w := setup(t)
	w.ok("enqueue", "increment")
	w.exec(fmt.Sprintf(`ALTER DATABASE %s SET default_transaction_read_only = on`, pgx.Identifier{one[string](w, `SELECT current_database()`)}.Sanitize()))
	for _, args := range [][]string{
		{"pause", "increment"}, {"enqueue", "increment", "--name", "again"}, {"set", "increment", "pause=1s"}, {"disable", "--reason", "r"},
		{"cancel", "increment"}, {"sample", "increment"}, {"run", "--until-idle"},
	} {
		r := w.run(args...)
		assert.Equal(t, exitFailed, r.code, "%v: %s", args, r.stderr)
		assert.Contains(t, r.stderr, "default_transaction_read_only is on", args)
		assert.Equal(t, 1, strings.Count(r.stderr, "\n"), r.stderr)
	}
	assert.Contains(t, w.ok("status"), "active")
	w.url += "&options=-c%20default_transaction_read_only%3Doff"
	w.ok("pause", "increment")
	require.Zero(t, one[int](w, `SELECT count(*) FROM app.items WHERE n <> 0`))
}
