package work

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// aFile is a work file on public.users, whose statement begins in line 7.
func aFile(t *testing.T, statement string) *Work {
	t.Helper()
	w, err := Parse("w", []byte(`-- description: for a test
-- table: public.users
-- cursor: id
-- argument: domain text

-- +bbm Work
`+statement))
	require.NoError(t, err)
	w.Path = "works/w.sql"
	return w
}

// withUsers makes public.users with that many rows.
func withUsers(t *testing.T, rows int) *pgx.Conn {
	t.Helper()
	conn := connect(t)
	execute(t, conn, `CREATE TABLE public.users (id bigint PRIMARY KEY, email text, n int NOT NULL DEFAULT 0, at timestamptz)`)
	execute(t, conn, `INSERT INTO public.users SELECT i, 'u' || i || '@x.org' FROM generate_series(1, $1::int) i`, rows)
	execute(t, conn, `ANALYZE public.users`)
	return conn
}

func checked(t *testing.T, conn *pgx.Conn, w *Work, values map[string]string) ([]Warning, error) {
	t.Helper()
	target, err := Resolve(t.Context(), conn, w)
	require.NoError(t, err)
	arguments := Arguments{}
	for name, value := range values {
		arguments[name] = &value
	}
	return CheckWork(t.Context(), conn, w, target, arguments)
}

func TestCheckWorkPassesWhatRuns(t *testing.T) {
	t.Parallel()
	for name, rows := range map[string]int{"an empty table": 0, "one row": 1, "two rows": 2, "many rows": 5000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := withUsers(t, rows)
			for _, statement := range []string{
				"UPDATE public.users AS u SET n = n + 1 WHERE @batch(u) AND u.email LIKE '%@' || @domain",
				"UPDATE public.users SET n = n + 1 WHERE @batch AND @domain <> ''",
				"DELETE FROM public.users AS u WHERE @batch(u) AND u.email LIKE '%@' || @domain",
				"WITH b AS (SELECT u.id FROM public.users AS u WHERE @batch(u) AND @domain <> '' FOR UPDATE) UPDATE public.users AS u SET n = 1 FROM b WHERE b.id = u.id",
				"SELECT length(u.email || @domain) FROM public.users AS u WHERE @batch(u)",
			} {
				warnings, err := checked(t, conn, aFile(t, statement), map[string]string{"domain": "x.org"})
				require.NoError(t, err, statement)
				assert.Empty(t, warnings, statement)
			}
			var changed int
			require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM public.users WHERE n > 0").Scan(&changed))
			assert.Zero(t, changed, "a check changes nothing")
			var setting string
			require.NoError(t, conn.QueryRow(t.Context(), "SHOW enable_seqscan").Scan(&setting))
			assert.Equal(t, "on", setting, "and leaves the session as it was")
		})
	}
}

func TestCheckWorkInsideATransactionLeavesItGoing(t *testing.T) {
	t.Parallel()
	conn := withUsers(t, 10)
	w := aFile(t, "UPDATE public.users AS u SET nn = 1 WHERE @batch(u) AND @domain <> ''")
	target, err := Resolve(t.Context(), conn, w)
	require.NoError(t, err)
	x := "x"
	require.NoError(t, pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		_, err := CheckWork(t.Context(), tx, w, target, Arguments{"domain": &x})
		require.Error(t, err)
		_, err = tx.Exec(t.Context(), "UPDATE public.users SET n = 7")
		return err
	}))
	var changed int
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM public.users WHERE n = 7").Scan(&changed))
	assert.Equal(t, 10, changed)
}

func TestCheckWorkBlamesTheLine(t *testing.T) {
	t.Parallel()
	conn := withUsers(t, 10)
	for statement, want := range map[string]string{
		"UPDATE public.users AS u\n   SET foo = @domain\n WHERE @batch(u)":                        `works/w.sql:8: column "foo" of relation "users" does not exist`,
		"UPDATE public.users AS u\n   SET n = 1 -- ünï\n WHERE @batch(u)\n AND u.emial = @domain": `works/w.sql:10: column u.emial does not exist (Perhaps you meant to reference the column "u.email")`,
		"\n\nUPDATE public.userz AS u SET n = 1 WHERE @batch(u) AND @domain = ''":                 `works/w.sql:9: relation "public.userz" does not exist`,
		"UPDATE users AS u SET n = 1 WHERE @batch(u) AND @domain = ''":                            `works/w.sql:7: relation "users" does not exist`,
		"UPDATE public.users AS u SET n = 1\nWHERE @batch(x) AND @domain = ''":                    `works/w.sql:8: missing FROM-clause entry for table "x"`,
		"UPDATE public.users AS u SET n = 1\nWHERE @batch(u) AND\n u.n = @domain":                 `works/w.sql:9: operator does not exist: integer = text`,
		"UPDATE public.users AS u SET n = 1 WHERE @batch(u) AND @domain = '' AND":                 `works/w.sql:7: syntax error at end of input`,
		"UPDATE public.users AS u SET n = 'x' WHERE @batch(u) AND @domain = ''":                   `works/w.sql:7: invalid input syntax for type integer: "x"`,
	} {
		_, err := checked(t, conn, aFile(t, statement), map[string]string{"domain": "x"})
		code, message := refusal(t, err)
		assert.Equal(t, dbgen.BBMMigrationFailureCodeInvalidWork, code, statement)
		assert.Contains(t, message, want, statement)
	}
}

func TestCheckWorkRefusesArguments(t *testing.T) {
	t.Parallel()
	conn := withUsers(t, 10)
	for _, c := range []struct {
		types  map[string]string
		values map[string]string
		want   string
		code   dbgen.MigrationFailureCode
	}{
		{nil, map[string]string{}, `argument "domain" (text) is missing`, dbgen.BBMMigrationFailureCodeInvalidArguments},
		{nil, map[string]string{"domain": "x", "dmain": "y"}, `unknown argument "dmain"; did you mean "domain"?`, dbgen.BBMMigrationFailureCodeInvalidArguments},
		{map[string]string{"domain": "int"}, map[string]string{"domain": "many"},
			`argument "domain" is no int: invalid input syntax for type integer: "many"`, dbgen.BBMMigrationFailureCodeInvalidArguments},
		{map[string]string{"domain": "timestamptz"}, map[string]string{"domain": "2024-13-01"}, `argument "domain" is no timestamptz`, dbgen.BBMMigrationFailureCodeInvalidArguments},
		{map[string]string{"domain": "smallint"}, map[string]string{"domain": "99999"}, `out of range`, dbgen.BBMMigrationFailureCodeInvalidArguments},
		{map[string]string{"domain": "public.missing"}, map[string]string{"domain": "x"},
			`works/w.sql: argument "domain": type "public.missing" does not exist`, dbgen.BBMMigrationFailureCodeInvalidWork},
	} {
		w := aFile(t, "UPDATE public.users AS u SET n = 1 WHERE @batch(u) AND @domain IS NOT NULL")
		for i, argument := range w.Arguments {
			if written, ok := c.types[argument.Name]; ok {
				w.Arguments[i].Type = written
			}
		}
		_, err := checked(t, conn, w, c.values)
		code, message := refusal(t, err)
		assert.Equal(t, c.code, code, c.want)
		assert.Contains(t, message, c.want)
	}
}

func TestCheckWorkSetsTheWorksSession(t *testing.T) {
	t.Parallel()
	conn := withUsers(t, 10)
	w := aFile(t, "UPDATE users AS u SET at = @domain::timestamptz WHERE @batch(u)")
	w.SearchPath, w.TimeZone = []string{"public"}, "Europe/Berlin"
	_, err := checked(t, conn, w, map[string]string{"domain": "2024-01-01"})
	require.NoError(t, err)
	w.TimeZone = "Mars/Olympus"
	_, err = checked(t, conn, w, map[string]string{"domain": "2024-01-01"})
	_, message := refusal(t, err)
	assert.Contains(t, message, `works/w.sql: invalid value for parameter "TimeZone": "Mars/Olympus"`)
}

func TestAFullScanIsRefusedOnALargeTableAndAWarningOnASmallOne(t *testing.T) {
	t.Parallel()
	conn := withUsers(t, 2000)
	hidden := aFile(t, "UPDATE public.users AS u SET n = 1 FROM (SELECT i AS id FROM generate_series(1, 10) i) AS g "+
		"WHERE @batch(g) AND u.email = 'u' || g.id || @domain")
	target, err := Resolve(t.Context(), conn, hidden)
	require.NoError(t, err)
	x := "@x.org"
	arguments := Arguments{"domain": &x}

	warnings, err := CheckWork(t.Context(), conn, hidden, target, arguments)
	require.NoError(t, err)
	require.Len(t, warnings, 1)
	assert.Contains(t, warnings[0].Message, "works/w.sql: the statement reads all of public.users for each sub-batch")

	target.Rows = largeTable
	_, err = CheckWork(t.Context(), conn, hidden, target, arguments)
	code, message := refusal(t, err)
	assert.Equal(t, dbgen.BBMMigrationFailureCodeInvalidWork, code)
	assert.Contains(t, message, "reads all of public.users")
}

func TestAStatementThatDoesNotReadItsTableIsRefused(t *testing.T) {
	t.Parallel()
	conn := withUsers(t, 2000)
	execute(t, conn, "CREATE TABLE public.accounts (id bigint PRIMARY KEY, n int)")
	_, err := checked(t, conn, aFile(t, "UPDATE public.accounts AS u SET n = 1 WHERE @batch(u) AND @domain <> ''"), map[string]string{"domain": "x"})
	_, message := refusal(t, err)
	assert.Contains(t, message, "works/w.sql: the statement does not read public.users, the table of its header")
}

func TestPlansOfPartitionsCompositesAndOddNamesAreRead(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	execute(t, conn, `
		CREATE SCHEMA "Odd";
		CREATE TABLE "Odd"."T" ("user" int, "Id" bigint, n int DEFAULT 0, PRIMARY KEY ("user", "Id")) PARTITION BY RANGE ("user");
		CREATE TABLE "Odd"."T 1" PARTITION OF "Odd"."T" FOR VALUES FROM (1) TO (3) PARTITION BY RANGE ("user");
		CREATE TABLE "Odd"."T 1a" PARTITION OF "Odd"."T 1" FOR VALUES FROM (1) TO (2);
		CREATE TABLE "Odd"."T 1b" PARTITION OF "Odd"."T 1" FOR VALUES FROM (2) TO (3);
		CREATE TABLE "Odd"."T 2" PARTITION OF "Odd"."T" FOR VALUES FROM (3) TO (100);
		INSERT INTO "Odd"."T" SELECT i % 5 + 1, i FROM generate_series(1, 5000) i;
		ANALYZE "Odd"."T"`)
	for _, alias := range []string{"u", `"select"`, `"My ""Alias"""`} {
		w, err := Parse("w", []byte(strings.ReplaceAll(`-- description: for a test
-- table: "Odd"."T"
-- cursor: "user", "Id"

-- +bbm Work
UPDATE "Odd"."T" AS ALIAS SET n = n + 1 WHERE @batch(ALIAS)`, "ALIAS", alias)))
		require.NoError(t, err)
		warnings, err := checked(t, conn, w, nil)
		require.NoError(t, err)
		assert.Empty(t, warnings, alias)
	}
}

func TestMentionsIsExact(t *testing.T) {
	t.Parallel()
	for condition, want := range map[string]bool{
		"((u.id > '1'::bigint) AND (u.id <= '2'::bigint))": true,
		"(ROW(u.id, u.x) > ROW('1'::bigint, '2'::bigint))": true,
		`("u"."id" > '1'::bigint)`:                         true,
		"((u.id)::text > '1'::text)":                       true,
		"(u.id2 > '1'::bigint)":                            false,
		"(xu.id > '1'::bigint)":                            false,
		"(x.u.id > '1'::bigint)":                           false,
		`(u."id x" > '1'::bigint)`:                         false,
		"(u_1.id > '1'::bigint)":                           false,
		"":                                                 false,
	} {
		assert.Equal(t, want, mentions(condition, "u", "id"), condition)
	}
}

func TestPinParamsPreferTheMigrationThenTheHeaders(t *testing.T) {
	t.Parallel()
	size := func(n int32) *int32 { return &n }
	target := Target{Rows: 9}
	for name, c := range map[string]struct {
		m             dbgen.Migration
		header, sub   int
		batch         int32
		subBatch      *int32
		estimatedRows int64
	}{
		"defaults":                      {batch: DefaultBatchSize, estimatedRows: 9},
		"headers":                       {header: 10, sub: 5, batch: 10, subBatch: size(5), estimatedRows: 9},
		"a large sub-batch from SQL":    {m: dbgen.Migration{SubBatchSize: size(60_000)}, batch: 60_000, estimatedRows: 9},
		"an empty table has no rows":    {m: dbgen.Migration{Status: dbgen.BBMMigrationStatusFinished}, batch: DefaultBatchSize},
		"the sub-batch is the runner's": {header: 10, batch: 10, estimatedRows: 9},
	} {
		params := PinParams(c.m, &Work{Name: "w", Table: "public.t", BatchSize: c.header, SubBatchSize: c.sub, Version: "1"}, target)
		assert.Equal(t, c.batch, params.BatchSize, name)
		assert.Equal(t, c.subBatch, params.SubBatchSize, name)
		assert.Equal(t, c.estimatedRows, params.TotalTupleCount, name)
	}
}
