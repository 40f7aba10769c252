package work

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// disguise writes a text that looks like placeholders as an expression of SQL, in one of the ways in which SQL can hide it.
func disguise(r *rand.Rand, text string) string {
	single := strings.ReplaceAll(text, "'", "''")
	tag := []string{"$$", "$a$", "$ä_1$"}[r.IntN(3)]
	escaped := strings.NewReplacer(`\`, `\\`, "'", `\'`, "\n", `\n`).Replace(text)
	continued := "'"
	if cut := r.IntN(len(single) + 1); !strings.Contains(single, "''") && !strings.ContainsAny(single, "ä") {
		continued = "'" + single[:cut] + "' -- @batch '\n\t'" + single[cut:] + "'"
	}
	forms := []string{
		"'" + single + "'",
		"'" + single + "' /* ' @batch(u) /* $$ */ \" */",
		"E'" + escaped + "'",
		"e'" + escaped + "' -- '@batch(u)",
		"N'" + single + "'",
		"U&'" + strings.ReplaceAll(single, `\`, `\\`) + "'",
	}
	if !strings.Contains(text, "$") {
		forms = append(forms, tag+text+tag)
	}
	if continued != "'" {
		forms = append(forms, continued)
	}
	return forms[r.IntN(len(forms))] + "\n"
}

// The server is the judge of what is a string, a comment or a name: what it reads in the expanded statement is what it reads in the text as written.
func TestAnExpandedStatementMeansToTheServerWhatWasWritten(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	execute(t, conn, `CREATE TABLE public.t (id bigint PRIMARY KEY, "@batch(u)" text, "@a ""$$" text)`)
	execute(t, conn, `INSERT INTO public.t SELECT g, 'column ' || g, 'other ' || g FROM generate_series(1, 5) AS g`)
	pieces := []string{"@batch(u)", "@batch", "@a", "'", `\`, `"`, "--", "/*", "*/", ";", "\n", "$1", "ä", "@@", "@>", " "}
	columns := []string{`u."@batch(u)"`, `u."@a ""$$"`, `u.U&"\0040batch(u)"`}
	r := rand.New(rand.NewPCG(7, 7))
	for round := range 300 {
		var list []string
		for range 1 + r.IntN(4) {
			var text strings.Builder
			for range 1 + r.IntN(6) {
				text.WriteString(pieces[r.IntN(len(pieces))])
			}
			list = append(list, disguise(r, text.String())+"::text", columns[r.IntN(len(columns))])
		}
		written := fmt.Sprintf("SELECT ARRAY[%s, @a] FROM public.t AS u WHERE @batch(u) ORDER BY id -- @batch", strings.Join(list, ", "))
		w := &Work{Name: "x", Table: "public.t", Cursor: []string{"id"}, Arguments: []Argument{{"a", "text"}}}
		var err error
		w.statement, err = compile(source{"x", written, 1}, w, true)
		require.NoError(t, err, written)
		argument := "value'; --"
		sent, values, err := NewStatements(w, Target{Schema: "public", Table: "t", Columns: []Column{{"id", "bigint"}}}).
			Work(Range{Key{"1"}, Key{"4"}}, Arguments{"a": &argument})
		require.NoError(t, err)
		// What was written, with the placeholders replaced by hand where the generator has put them: the last of each.
		head, tail := cutLast(written, "@batch(u) ORDER BY id")
		head, middle := cutLast(head, "@a]")
		plain := head + "'value''; --']" + middle + "id IN (2, 3, 4) ORDER BY id" + tail
		require.Equal(t, lists(t, conn, plain), lists(t, conn, sent, values...), "round %d: %s", round, written)
	}
}

func cutLast(text, separator string) (before, after string) {
	at := strings.LastIndex(text, separator)
	if at < 0 {
		return text, ""
	}
	return text[:at], text[at+len(separator):]
}

func lists(t *testing.T, conn *pgx.Conn, sql string, values ...any) [][]string {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql, values...)
	require.NoError(t, err, sql)
	found, err := pgx.CollectRows(rows, pgx.RowTo[[]string])
	require.NoError(t, err, sql)
	require.Len(t, found, 3)
	return found
}

func TestNamesAreWrittenAsTheServerReadsThem(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	for _, name := range hostileNames {
		table := WriteName(name, name)
		execute(t, conn, "CREATE SCHEMA "+WriteName(name))
		execute(t, conn, fmt.Sprintf("CREATE TABLE %s (%s bigint PRIMARY KEY)", table, WriteName(name)))
		var found int
		require.NoError(t, conn.QueryRow(t.Context(), `
			SELECT count(*) FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
			WHERE c.relkind = 'r' AND a.attname = $1 AND c.relname = $1 AND n.nspname = $1`, name).Scan(&found), "%q", name)
		assert.Equal(t, 1, found, "%q was written as %s", name, table)
		read, err := (&Work{Table: table}).TableName()
		require.NoError(t, err)
		assert.Equal(t, []string{name, name}, read)
		// A scaffold is a whole statement: a name that only some places take without quotes would break it.
		execute(t, conn, fmt.Sprintf("PREPARE p AS UPDATE %s AS u SET %s = 1", table, WriteName(name)))
		execute(t, conn, "DEALLOCATE p")
	}
}

// hostileNames are names that PostgreSQL takes and that quoting, terminals or people stumble over.
var hostileNames = []string{
	"select", "user", "left", "table", "Upper", "a b", " ", `"`, `""`, "'", ";", "a; DROP TABLE x; --", "--", "/*", "*/", "$$", "$1", "@batch", `\`, `a\`, "%s", "100%", "a.b", "(", "a,b",
	"NULL", "\u202etxt.exe", "\u05d0\u05d1\u05d2", "👍", "é", "e\u0301", "日本", "\t", "a\nb", "\r", "\x1b[31mred", "\u0085", "\u200b", "\ufeff", "1",
	strings.Repeat("x", 63), strings.Repeat("é", 31) + "x", strings.Repeat("日", 21), "x" + strings.Repeat("👍", 15) + "yy",
}

func TestEveryReservedWordOfTheServerIsQuoted(t *testing.T) {
	t.Parallel()
	rows, err := connect(t).Query(t.Context(), "SELECT word FROM pg_catalog.pg_get_keywords() WHERE catcode IN ('R', 'T')")
	require.NoError(t, err)
	words, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.NotEmpty(t, words)
	for _, word := range words {
		assert.Equal(t, `"`+word+`"`, WriteName(word))
	}
}
