package work

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// usersEmailLower is the example of the documentation.
const usersEmailLower = `-- description: Fill email_lower for rows written before it existed.
-- table: public.users
-- cursor: id
-- search_path: public
-- batch_size: 50000
-- sub_batch_size: 1000
-- argument: domain text

-- +bbm Work
UPDATE public.users AS u
   SET email_lower = lower(u.email)
 WHERE @batch(u)
   AND u.email_lower IS NULL
   AND u.email LIKE '%@' || @domain;
`

// file is a work file on public.t with the cursor id and that statement; its statement begins in line 5.
func file(statement string, headers ...string) string {
	return "-- description: d\n-- table: public.t\n-- cursor: id\n" + strings.Join(append(headers, marker), "\n") + "\n" + statement
}

// parsed is a work that has to parse.
func parsed(t *testing.T, src string) *Work {
	t.Helper()
	w, err := Parse("x", []byte(src))
	require.NoError(t, err)
	return w
}

func TestParseReadsEveryHeader(t *testing.T) {
	t.Parallel()
	w := parsed(t, `-- description: Say: why.
--
-- table: "Odd Name".T
--	cursor : Tenant_ID, "Id"
-- scope: state = 'a; -- b' AND (n[1] IS NULL)
-- remaining: n IS NULL
-- search_path: app, "My Schema"
-- timezone: Europe/Berlin
-- batch_size: 2147483647
-- sub_batch_size: 7
-- repeated_keys: yes
-- argument: a numeric(10, 2)
-- argument: b  int[]
-- +bbm Work
-- A comment.
DELETE FROM "Odd Name".T WHERE @batch AND a = @a AND b = ANY(@b)`)
	assert.Equal(t, 16, w.StatementLine())
	assert.Equal(t, []int{5, 6}, []int{w.scopeLine, w.remainingLine})
	w.statement, w.scopeLine, w.remainingLine = nil, 0, 0
	assert.Equal(t, &Work{
		Name: "x", Description: "Say: why.", Table: `"Odd Name".T`, Cursor: []string{"tenant_id", "Id"}, Scope: "state = 'a; -- b' AND (n[1] IS NULL)",
		Remaining: "n IS NULL", SearchPath: []string{"app", "My Schema"}, TimeZone: "Europe/Berlin", BatchSize: 2147483647, SubBatchSize: 7, RepeatedKeys: true,
		Arguments: []Argument{{"a", "numeric(10, 2)"}, {"b", "int[]"}},
	}, w)
	names, err := w.TableName()
	require.NoError(t, err)
	assert.Equal(t, []string{"Odd Name", "t"}, names)
}

func TestParseTakesWhatEditorsWrite(t *testing.T) {
	t.Parallel()
	plain := parsed(t, usersEmailLower)
	windows := parsed(t, "\ufeff"+strings.ReplaceAll(usersEmailLower, "\n", "\r\n"))
	unended := parsed(t, strings.TrimSuffix(usersEmailLower, ";\n"))
	assert.Equal(t, plain.Checksum(), windows.Checksum())
	assert.Equal(t, plain.Checksum(), unended.Checksum())
	assert.Equal(t, plain.statement, windows.statement)
}

func TestParseRefusesBrokenHeadersWithLineAndRemedy(t *testing.T) {
	t.Parallel()
	ok := "UPDATE public.t SET a = 1 WHERE @batch"
	tests := []struct{ name, src, want string }{
		{"unknown", file(ok, "-- tabel: public.t"), `x:4: unknown header "tabel"; did you mean "table"?`},
		{"unknown, upper case", file(ok, "-- Table: public.t"), `x:4: unknown header "Table"; did you mean "table"?`},
		{"unknown, near to none", file(ok, "-- author: me"), `x:4: unknown header "author"; use one of description, table, cursor, scope, remaining, search_path, timezone, batch_size, sub_batch_size, repeated_keys, argument`},
		{"doubled", file(ok, "-- table: public.u"), `x:4: header "table" stands in line 2 already; keep one`},
		{"empty", "-- description:\n" + file(ok), `x:1: header "description" is empty; write -- description: what changes, and why`},
		{"no header", file(ok, "-- batch_size 5"), `x:4: "-- batch_size 5" is no header; write -- key: value (comments go below "-- +bbm Work")`},
		{"no space", file(ok, "--batch_size: 5"), `x:4: "--batch_size: 5" is no header; write -- key: value (comments go below "-- +bbm Work")`},
		{"missing table", "-- description: d\n-- cursor: id\n-- +bbm Work\n" + ok, `x:3: header "table" is missing; add -- table: public.users above this line`},
		{"missing cursor", "-- description: d\n-- table: a.b\n\n-- +bbm Work\n" + ok, `x:4: header "cursor" is missing; add -- cursor: id above this line`},
		{"missing description", "-- +bbm Work\n" + ok, `x:1: header "description" is missing; add -- description: what changes, and why above this line`},
		{"missing marker", "-- description: d\n\n" + ok, `x:3: the statement begins here, but "-- +bbm Work" does not stand above it; put it on a line of its own, below the headers`},
		{"nothing but headers", "-- description: d\n-- table: a.b\n", `x:2: "-- +bbm Work" is missing; put it on a line of its own, between the headers and the statement`},
		{"an empty file", "", `x:1: "-- +bbm Work" is missing; put it on a line of its own, between the headers and the statement`},
		{"misspelt marker", "-- +bbm work\n" + ok, `x:1: "-- +bbm work" is no marker; write "-- +bbm Work"`},
		{"second marker", file(ok + "\n  -- +bbm Work\n"), `x:6: a second "-- +bbm Work"; a file holds one work`},
		{"header below the marker", file("\n-- batch_size: 5\n" + ok), `x:6: header "batch_size" stands below "-- +bbm Work"; move it above`},
		{"table of three parts", "-- table: a.b.c\n", `x:1: table a.b.c: it has more than two parts; write schema.table, without a database`},
		{"table with a stray word", "-- table: a.b AS c\n", `x:1: table a.b AS c: found AS after b; separate names by "." and quote odd ones as in SQL`},
		{"table with an odd name", "-- table: public.my-table\n", `x:1: table public.my-table: found - after my; separate names by "." and quote odd ones as in SQL`},
		{"table with half a name", "-- table: public.\n", `x:1: table public.: a name is missing at the end`},
		{"table without a name", "-- table: public.\"\"\n", `x:1: table public."": "" is no name`},
		{"table without a closing quote", "-- table: \"a.b\n", `x:1: table "a.b: this quoted name never ends; close it with " (a quote inside is doubled)`},
		{"table without a schema", "-- description: d\n-- table: t\n-- cursor: id\n-- +bbm Work\n" + ok, `x:2: table t has no schema; write schema.t, since only pg_catalog is searched`},
		{"too long a name", "-- table: a." + strings.Repeat("ü", 32) + "\n", `x:1: table a.` + strings.Repeat("ü", 32) + `: the name ` + strings.Repeat("ü", 32) + ` has more than 63 bytes; PostgreSQL would cut it`},
		{"cursor without commas", "-- cursor: a b\n", `x:1: cursor a b: found b after a; separate names by "," and quote odd ones as in SQL`},
		{"cursor with a hole", "-- cursor: a,,b\n", `x:1: cursor a,,b: found , where a name should be; quote odd names as in SQL`},
		{"cursor with a repeated column", "-- cursor: a, \"b c\", A\n", `x:1: the cursor names column a twice; name each once`},
		{"cursor of 33 columns", "-- cursor: a" + strings.Repeat(",a", 32) + "\n", `x:1: the cursor has 33 columns; give 1 to 32, those of a unique index`},
		{"search path", "-- search_path: a, a\n", `x:1: search_path names a twice; name each schema once`},
		{"search path of temporary tables", "-- search_path: pg_temp, a\n", `x:1: search_path names pg_temp; leave it out: temporary tables are searched last`},
		{"time zone", "-- timezone: 'UTC'\n", `x:1: "'UTC'" is no time zone; give one by name, as in Europe/Berlin`},
		{"size 0", "-- batch_size: 0\n", `x:1: batch_size is "0"; give a whole number of rows from 1 to 2147483647, or leave the header out`},
		{"size beyond int4", "-- sub_batch_size: 2147483648\n", `x:1: sub_batch_size is "2147483648"; give a whole number of rows from 1 to 2147483647, or leave the header out`},
		{"size with words", "-- batch_size: 50k\n", `x:1: batch_size is "50k"; give a whole number of rows from 1 to 2147483647, or leave the header out`},
		{"sub-batch above batch", file(ok, "-- sub_batch_size: 11", "-- batch_size: 10"), `x:4: sub_batch_size 11 is above the batch size of 10; a sub-batch is a part of a batch`},
		{"sub-batch above the default batch", file(ok, "-- sub_batch_size: 50001"), `x:4: sub_batch_size 50001 is above the batch size of 50000; a sub-batch is a part of a batch`},
		{"repeated_keys", "-- repeated_keys: true\n", `x:1: repeated_keys is "true"; write yes or no`},
		{"argument without a type", "-- argument: a\n", `x:1: argument "a" has no type; write -- argument: a text`},
		{"argument with an odd name", "-- argument: A text\n", `x:1: "A" is no name for an argument; use lower-case letters, digits and _, at most 63`},
		{"argument called batch", "-- argument: batch text\n", `x:1: no argument can be called batch, since @batch stands for the range; choose another name`},
		{"argument declared twice", "-- argument: a text\n-- argument: a int\n", `x:2: argument "a" is declared twice; declare each once`},
		{"argument of no type", "-- argument: a text); DROP\n", `x:1: argument "a": "text); DROP" is no type; write it as in SQL: text, bigint, numeric(10,2), timestamp with time zone, int[], schema.type`},
		{"argument of a cutting type", "-- argument: a varchar(10)\n", `x:1: argument "a": a value cast to varchar(10) is cut without an error; use text, or varbit for bits`},
		{"bytes that are not UTF-8", "-- description: d\n-- table: \xff\n", `x:2: byte 0xff is not UTF-8; save the file as UTF-8`},
		{"a carriage return alone", "-- description: d\r-- table: x\n", `x:1: the control character '\r' stands in a header; take it out, and end lines with \n`},
		{"an escape sequence", "-- table: \x1b[31mx\n", `x:1: the control character '\x1b' stands in a header; take it out, and end lines with \n`},
		{"a line break in what is quoted", file("DELETE FROM public.t AS \"a\nb\" WHERE @batch(\"a\n" + strings.Repeat("b", 70) + "\")"), `x:6: the name "a ` + strings.Repeat("b", 70) + `" has more than 63 bytes; PostgreSQL would cut it`},
		{"a NUL byte", "-- description: d\n\n\x00", `x:3: a NUL byte; save the file as plain UTF-8 text`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse("x", []byte(test.src))
			var refused *ParseError
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, test.want, err.Error())
		})
	}
}

func TestParseRefusesNamesThatNoFileShouldHave(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", ".x", "a b", "a/b", "é", strings.Repeat("a", 101)} {
		_, err := Parse(name, []byte(usersEmailLower))
		assert.ErrorContains(t, err, "is no name for a work; use letters, digits, _, - and ., begin with a letter or a digit, and use at most 100 bytes", name)
	}
	_, err := Parse(strings.Repeat("a", 98)+"-1", []byte(usersEmailLower))
	assert.NoError(t, err)
}

func TestParseTakesTheTypesOfArguments(t *testing.T) {
	t.Parallel()
	for _, written := range []string{
		"text", "INT", "timestamptz", "numeric(10,2)", "numeric(4,-2)", "int[]", "int [3][]", "double precision", "timestamp (3) with time zone", "time without time zone",
		"timestamp with time zone[]", "character varying", "app.status", `app."Status"[]`, `"Odd Type"`, "interval", "jsonb", "bit varying",
	} {
		assert.NoError(t, checkArgumentType(written), written)
	}
	for _, written := range []string{
		"char", "character(3)", "CHAR[]", "varchar(3)", "character varying(3)", "bit", "bit(8)", "text or true", "text collate x", "int --", "a.b.c", "int[", "int(a)",
		"int)", "'x'", "int;", "setof int", "$1", `"a`,
	} {
		assert.Error(t, checkArgumentType(written), written)
	}
}

// A folder of works may hold anything: what is no work is a line of its own, and nothing hangs or fills the memory.
func TestLoadDirRefusesWhatIsNoPlainFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, syscall.Mkfifo(path("a_pipe.sql"), 0o600))
	require.NoError(t, os.Symlink("/dev/zero", path("b_device.sql")))
	require.NoError(t, os.Symlink(t.TempDir(), path("c_folder.sql")))
	require.NoError(t, os.Symlink("/nowhere", path("d_nothing.sql")))
	require.NoError(t, os.WriteFile(path("e_large.sql"), nil, 0o600))
	require.NoError(t, os.Truncate(path("e_large.sql"), 100<<20))
	require.NoError(t, os.WriteFile(path("f_closed.sql"), []byte(usersEmailLower), 0o000))
	require.NoError(t, os.WriteFile(path("g_binary.sql"), []byte("\x7fELF\x00\x01\xff"), 0o600))
	require.NoError(t, os.WriteFile(path("h_empty.sql"), nil, 0o600))
	require.NoError(t, os.WriteFile(path("work.sql"), []byte(usersEmailLower), 0o600))
	require.NoError(t, os.Symlink("work.sql", path("link.sql")))

	works, err := LoadDir(dir)

	var broken *DirError
	require.ErrorAs(t, err, &broken)
	lines := strings.Split(broken.Error(), "\n")
	for i, want := range []string{
		"a_pipe.sql: it is no plain file", "b_device.sql: it is no plain file", "c_folder.sql: it is no plain file", "d_nothing.sql: no such file",
		"e_large.sql: it has 104857600 bytes; a work file has at most 1048576",
	} {
		assert.Contains(t, lines[i], want)
	}
	assert.Contains(t, broken.Error(), "g_binary.sql:1: ")
	assert.Contains(t, broken.Error(), "h_empty.sql:1: ")
	if os.Geteuid() != 0 { // to whom nothing is closed
		assert.Contains(t, broken.Error(), "f_closed.sql: permission denied")
	}
	var names []string
	for _, w := range works {
		names = append(names, w.Name)
	}
	assert.Subset(t, names, []string{"link", "work"})
	assert.LessOrEqual(t, len(names), 3)
}

func TestLoadDirListsEveryBrokenFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	write("b.sql", usersEmailLower)
	write("a.sql", "-- tabel: x\n")
	write("c d.sql", usersEmailLower)
	write("notes.txt", "")
	write(".#b.sql", "")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "old.sql"), 0o700))

	works, err := LoadDir(dir)

	var broken *DirError
	require.ErrorAs(t, err, &broken)
	require.Len(t, broken.Works, 2)
	assert.Contains(t, broken.Works[0].Error(), filepath.Join(dir, "a.sql")+`:1: unknown header "tabel"`)
	assert.Contains(t, broken.Works[1].Error(), filepath.Join(dir, "c d.sql")+`: "c d" is no name for a work`)
	require.Len(t, works, 1)
	assert.Equal(t, "b", works[0].Name)
	assert.Equal(t, filepath.Join(dir, "b.sql"), works[0].Path)

	_, err = LoadDir(filepath.Join(dir, "none"))
	assert.ErrorIs(t, err, os.ErrNotExist)
}
