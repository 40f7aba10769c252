package cli

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"unicode"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// hostileNames are what PostgreSQL takes for the name of a schema, a table and a column, and quoting, terminals or people stumble over.
var hostileNames = [][3]string{
	{"select", `say "hi"`, "it's"},
	{"a; DROP TABLE app.items; --", "-- x", "/* x"},
	{"$$ $1 @batch(u)", `back\slash\`, "100%s%%"},
	{"a.b(c)", "NULL", "\u05d0\u05d1\u05d2"},
	{"👍🏽", "e\u0301", "日本"},
	{strings.Repeat("é", 31) + "x", "x" + strings.Repeat("👍", 15) + "yy", strings.Repeat("x", 63)},
	{"\u202etxt.exe", "a\u200bb\ufeff", "\u2066x\u2028"},
	{" ", `"`, `'"\`},
}

// hostileKeys are texts of keys and values of arguments.
var hostileKeys = []string{
	"", " ", "NULL", "null", "'", `"`, `\`, `{"a",NULL}`, "$1", "'; DROP TABLE app.items; --", "\x1b[2J", "\u202e", "\t\r\n", "\x01\x7f", "日本👍", "%s%%", "@batch", "a,b", "{}",
}

// requireVisible proves that what was printed can tear no line and command no terminal.
func requireVisible(t *testing.T, printed string) {
	t.Helper()
	hidden := strings.IndexFunc(printed, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) })
	require.Negative(t, hidden, "%q", printed[max(0, hidden):min(len(printed), hidden+100)])
}

func TestHostileNamesOfTablesColumnsAndMigrations(t *testing.T) {
	w := setup(t)
	for number, names := range hostileNames {
		table, column := work.WriteName(names[0], names[1]), work.WriteName(names[2])
		w.exec("CREATE SCHEMA " + work.WriteName(names[0]))
		w.exec(fmt.Sprintf(`CREATE TABLE %s (%s text COLLATE "C" PRIMARY KEY, n int NOT NULL DEFAULT 0, label text)`, table, column))
		_, err := w.conn.Exec(t.Context(), fmt.Sprintf("INSERT INTO %s SELECT DISTINCT k, 0 FROM unnest($1::text[]) AS k", table), hostileKeys)
		require.NoError(t, err)

		file := fmt.Sprintf("hostile_%d", number)
		assert.Contains(t, w.ok("new", file, "--table", table), file)
		requireVisible(t, w.ok("works"))
		w.file(file, fmt.Sprintf("-- description: %s\n-- table: %s\n-- cursor: %s\n-- argument: label text\n\n-- +bbm Work\nUPDATE %s AS %s SET n = n + 1, label = @label WHERE @batch(%s)",
			strings.TrimSpace("d "+names[0]), table, column, table, column, column))
		label := hostileKeys[number%len(hostileKeys)]
		name := names[0] + names[1]
		w.walk(file, string([]rune(name)[:min(100, len([]rune(name)))]), "label="+label)
		var wrong int
		require.NoError(t, w.conn.QueryRow(t.Context(), fmt.Sprintf("SELECT count(*) FROM %s WHERE n <> 1 OR label IS DISTINCT FROM $1", table), label).Scan(&wrong))
		require.Zero(t, wrong, "%q: rows that were not changed once, to %q", names, label)
	}
	require.Equal(t, int64(100), one[int64](w, "SELECT count(*) FROM app.items WHERE n = 0"))
}

// walk takes a migration through its life by all commands that show it.
func (w *world) walk(file, name, argument string) {
	w.t.Helper()
	enqueue := []string{"enqueue", file, "--arg", argument, "--batch-size", "5", "--sub-batch-size", "2", "--paused"}
	if r := w.run(append(enqueue, "--name", name)...); r.code != exitDone {
		// Such a name is not made by the command line; one made by SQL is still to be dealt with, apart from what no text on a line can be.
		w.requireRefusal(r)
		requireVisible(w.t, r.stderr)
		w.ok(enqueue...)
		if name = strings.TrimSpace(name); name == "" {
			name = file
		}
		_, err := w.conn.Exec(w.t.Context(), "UPDATE bbm.batched_background_migrations SET name = $1 WHERE name = $2", name, file)
		require.NoError(w.t, err)
	}
	shown := func(args ...string) string {
		printed := w.ok(args...)
		requireVisible(w.t, printed)
		return printed
	}
	require.Contains(w.t, shown("explain", file, "--arg", argument), file)
	require.Contains(w.t, shown("sample", file, "--arg", argument, "--json"), file)
	require.Contains(w.t, shown("resume", "--", name), visible(name)+" active")
	shown("set", "--", name, "pause=1ms")
	w.ok("run", "--until-idle")
	require.Contains(w.t, shown("status"), visible(name))
	require.Contains(w.t, shown("status", "--", name), "finished")
	require.Equal(w.t, name, objects(w.t, shown("status", "--json", "--", name))[0]["name"])
	require.Contains(w.t, shown("jobs", "--", name), "succeeded")
	require.NotEmpty(w.t, objects(w.t, shown("jobs", "--json", "--", name)))
	shown("logs", "--", name)
	shown("logs", "--json", "--", name)
	require.Contains(w.t, shown("wait", "--", name), visible(name))
	dbtest.CheckHistory(w.t, w.conn, name)
	require.Equal(w.t, visible(name)+" deleted\n", shown("delete", "--", name))
}

// A header is one line, so a file cannot name such a table; a work in Go can.
func TestATableWhoseNameHoldsLineBreaksAndEscapeSequences(t *testing.T) {
	w := setup(t)
	table := work.WriteName("a\nb", "\x1b[31mred\r\u009b")
	w.exec(fmt.Sprintf(`CREATE SCHEMA "a`+"\n"+`b"; CREATE TABLE %s ("`+"\t"+`" int PRIMARY KEY, n int NOT NULL DEFAULT 0); INSERT INTO %[1]s SELECT generate_series(1, 30)`, table))
	line := w.refused("new", "red", "--table", table)
	requireVisible(t, line)
	assert.Contains(t, line, "has a line break or a control character, which no work file can hold; write the work in Go")

	w.goWorks = []*work.Work{{
		Name: "red", Version: "1", Table: table, Cursor: []string{"\t"},
		Do: func(ctx context.Context, tx pgx.Tx, b work.Batch) (int64, error) {
			return b.Exec(ctx, tx, "UPDATE "+table+" AS u SET n = n + 1 WHERE @batch(u)")
		},
	}}
	requireVisible(t, w.ok("works"))
	w.ok("enqueue", "red", "--sub-batch-size", "7")
	w.ok("run", "--until-idle")
	detail := w.ok("status", "red")
	requireVisible(t, detail)
	assert.Contains(t, detail, `"a\nb"."\x1b[31mred\r\u009b"`)
	require.Zero(t, one[int64](w, "SELECT count(*) FROM "+table+" WHERE n <> 1"))
	dbtest.CheckHistory(t, w.conn, "red")
}
