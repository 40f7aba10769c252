package work

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseRefusesStatementsThatCannotBeRunInBatches(t *testing.T) {
	t.Parallel()
	transaction := " is no statement for a work; each sub-batch runs in a transaction of its own, which the statement cannot steer; leave it out"
	skipped := ": SKIP LOCKED leaves out rows that somebody else holds, and the migration would finish without them; write the clause without it: a sub-batch that has waited too long is tried again"
	schema := " is no statement for a work; change the schema in a schema migration; a work changes rows"
	head := "-- description: d\n-- table: public.t\n-- cursor: id\n" + marker + "\n" // the statement begins in line 5
	tests := []struct{ name, statement, want string }{
		{"none", "\n-- nothing\n;", `x:5: the statement is missing; write it below "-- +bbm Work"`},
		{"two", "UPDATE t SET a = 1 WHERE @batch;\n\nUPDATE t SET b = 1", `x:7: a second statement; a work is one statement, so write a work for each, or one WITH statement`},
		{"a transaction around it", "\nBEGIN;\nUPDATE t SET a = 1 WHERE @batch;\nCOMMIT", `x:7: a second statement; a work is one statement, so write a work for each, or one WITH statement`},
		{"commit", "commit", `x:5: COMMIT` + transaction},
		{"do", "DO $$ @batch $$", `x:5: DO is no statement for a work; put the code into a function and call it: SELECT f(u.id) FROM … AS u WHERE @batch(u)`},
		{"call", "CALL f(@batch)", `x:5: CALL is no statement for a work; put the code into a function and call it: SELECT f(u.id) FROM … AS u WHERE @batch(u)`},
		{"copy", "COPY t TO STDOUT", `x:5: COPY is no statement for a work; rows go from table to table with INSERT INTO … SELECT`},
		{"truncate", "Truncate t", `x:5: TRUNCATE` + schema},
		{"create", "/* why */ CREATE TABLE t ()", `x:5: CREATE` + schema},
		{"set", "SET work_mem = '1GB'", `x:5: SET is no statement for a work; settings belong in headers (search_path, timezone)`},
		{"explain", "EXPLAIN UPDATE t SET a = 1 WHERE @batch", `x:5: EXPLAIN begins no statement for a work; use one of UPDATE, INSERT, DELETE, MERGE, WITH, SELECT`},
		{"a quoted keyword", `"UPDATE" t`, `x:5: "UPDATE" begins no statement for a work; use one of UPDATE, INSERT, DELETE, MERGE, WITH, SELECT`},
		{"an endless string", "UPDATE t\nSET a = 'x WHERE @batch", `x:6: this string never ends; close it with ' (a quote inside is doubled)`},
		{"no @batch", "UPDATE t\nSET a = 1 WHERE b = '@batch' -- @batch", `x:5: @batch is missing; put it into the WHERE clause, as in WHERE @batch or WHERE @batch(u)`},
		{"two @batch", "UPDATE t SET a = 1\nWHERE @batch\nOR @batch", `x:7: a second @batch; use it exactly once, where it limits the rows that change`},
		{"@batch of an expression", "UPDATE t SET a = 1\nWHERE @batch(t.id)", `x:6: write @batch(alias) with the one name by which the statement calls the table`},
		{"@batch of nothing", "UPDATE t SET a = 1\nWHERE @batch()", `x:6: write @batch(alias) with the one name by which the statement calls the table`},
		{"@batch, misspelt", "UPDATE t SET a = 1\nWHERE @bacth(u)", `x:6: @bacth is not declared; did you mean @batch?`},
		{"a positional parameter", "UPDATE t SET a = 1\nWHERE @batch AND b = $1", `x:6: $1 is a positional parameter; declare an argument (-- argument: name type) and write @name`},
		{"rows that are locked left out", "WITH c AS (SELECT id FROM t\nWHERE @batch FOR UPDATE skip /* why */ Locked) DELETE FROM t USING c WHERE t.id = c.id", `x:6` + skipped},
		{"of some tables", "SELECT f(u.id) FROM u JOIN t ON true\nWHERE @batch(u)\nFOR NO KEY UPDATE OF public.u, \"T\" SKIP LOCKED", `x:7` + skipped},
		{"behind another clause", "SELECT f(u.id) FROM u, t WHERE @batch(u) FOR SHARE OF u FOR KEY SHARE OF skip SKIP LOCKED", `x:5` + skipped},
		{"an operator before @batch", "UPDATE t SET a = 1\nWHERE NOT a||@batch", `x:6: PostgreSQL reads ||@ as one operator; put a space before @batch`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse("x", []byte(head+test.statement))
			require.Error(t, err)
			assert.Equal(t, test.want, err.Error())
		})
	}
}

func TestParseRefusesArgumentsThatAreNotDeclaredOrNotUsed(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, statement, want string }{
		{"an argument, misspelt", "UPDATE t SET a = @used\nWHERE @batch AND b = @Domain", `x:8: @Domain is not declared; did you mean @domain?`},
		{"an undeclared argument", "UPDATE t SET a = @used, b = @domain\nWHERE @batch AND b = @limit_of_it", `x:8: @limit_of_it is not declared; add "-- argument: limit_of_it type" (the work takes domain, used; the operator @ needs a space after it)`},
		{"an unused argument", "UPDATE t SET a = @used\nWHERE @batch AND b = '@domain'", `x:7: argument "domain" is declared but not used; write @domain in the statement or remove its header`},
		{"an operator before an argument", "UPDATE t SET a = 1\nWHERE @batch AND b =@domain", `x:8: PostgreSQL reads =@ as one operator; put a space before @domain`},
		{"a word before an argument", "UPDATE t SET a = 1\nWHERE @batch AND b LIKE@domain", `x:8: put a space before @domain`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse("x", []byte(file(test.statement, "-- argument: domain text", "-- argument: used text")))
			require.Error(t, err)
			assert.Equal(t, test.want, err.Error())
		})
	}
}

func TestParseTakesLocksThatWaitOrFailAndWordsThatLookLikeThem(t *testing.T) {
	t.Parallel()
	head := "-- description: d\n-- table: public.t\n-- cursor: id\n" + marker + "\n"
	for _, statement := range []string{
		"INSERT INTO v SELECT * FROM t WHERE @batch FOR SHARE OF t ON CONFLICT DO NOTHING",
		"SELECT f(id) FROM t WHERE @batch FOR UPDATE NOWAIT",
		"UPDATE t SET a = 'FOR UPDATE SKIP LOCKED' WHERE @batch -- FOR UPDATE SKIP LOCKED",
		"UPDATE t SET a = (SELECT skip locked FROM u LIMIT 1) WHERE @batch",
		`INSERT INTO v SELECT "for", "update", skip locked FROM t WHERE @batch`,
		"UPDATE t SET a = substring(b FOR 2) WHERE @batch",
	} {
		_, err := Parse("x", []byte(head+statement))
		require.NoError(t, err, statement)
	}
}
