package work

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// aScoped is a work on public.users whose scope stands in line 4.
func aScoped(t *testing.T, scope string, headers ...string) *Work {
	t.Helper()
	src := "-- description: for a test\n-- table: public.users\n-- cursor: id\n-- scope: " + scope + "\n"
	for _, h := range headers {
		src += h + "\n"
	}
	w, err := Parse("w", []byte(src+"-- +bbm Work\nUPDATE public.users AS u SET n = 1 WHERE @batch(u) AND u.email IS NULL"))
	require.NoError(t, err)
	w.Path = "works/w.sql"
	return w
}

// withScope makes public.users, every hundredth row of which has no e-mail.
func withScope(t *testing.T, rows int, indexes string) *pgx.Conn {
	t.Helper()
	conn := connect(t)
	execute(t, conn, `CREATE TABLE public.users (id bigint PRIMARY KEY, email text, n int NOT NULL DEFAULT 0, state text NOT NULL DEFAULT 'new')`)
	execute(t, conn, `INSERT INTO public.users SELECT i, CASE WHEN i % 100 > 0 THEN 'u' || i END FROM generate_series(1, $1::int) AS i`, rows)
	execute(t, conn, indexes)
	return conn
}

func TestAScopeThatAnIndexServesPasses(t *testing.T) {
	t.Parallel()
	const plain = "CREATE INDEX sparse ON public.users (id) WHERE email IS NULL"
	for name, c := range map[string]struct {
		rows                   int
		index, scope, analyzed string
	}{
		"the index's own predicate":      {20_000, plain, "email IS NULL", "ANALYZE public.users"},
		"without statistics":             {20_000, plain, "email IS NULL", ""},
		"an empty table":                 {0, plain, "email IS NULL", ""},
		"a single row":                   {1, plain, "email IS NULL", "ANALYZE public.users"},
		"a table that nothing matches":   {50, plain, "email IS NULL", "VACUUM ANALYZE public.users"},
		"a unique index":                 {20_000, "CREATE UNIQUE INDEX ON public.users (id) WHERE email IS NULL", "email IS NULL", ""},
		"a backward index":               {20_000, "CREATE INDEX ON public.users (id DESC) WHERE email IS NULL", "email IS NULL", ""},
		"more columns behind the cursor": {20_000, "CREATE INDEX ON public.users (id, state) INCLUDE (n) WHERE email IS NULL", "email IS NULL", ""},
		"written otherwise":              {20_000, "CREATE INDEX ON public.users (id) WHERE n > 3", "3 < n", ""},
		"nearly every row":               {20_000, "CREATE INDEX ON public.users (id) WHERE state = 'new'", "state = 'new'", "VACUUM ANALYZE public.users"},
		"a condition on the cursor":      {20_000, "CREATE INDEX ON public.users (id) WHERE id > 9000 AND email IS NULL", "email IS NULL AND id > 9000", "ANALYZE public.users"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := withScope(t, c.rows, c.index)
			if c.analyzed != "" {
				execute(t, conn, c.analyzed)
			}
			warnings, err := checked(t, conn, aScoped(t, c.scope), nil)
			require.NoError(t, err)
			assert.Empty(t, warnings)
			var setting string
			require.NoError(t, conn.QueryRow(t.Context(), "SHOW enable_sort").Scan(&setting))
			assert.Equal(t, "on", setting, "a check leaves the session as it was")
		})
	}
}

func TestAScopeThatNoIndexServesIsRefused(t *testing.T) {
	t.Parallel()
	const (
		create = "; CREATE INDEX CONCURRENTLY ON public.users (id) WHERE "
		byKey  = "works/w.sql:4: no index serves the scope: the plan of its walk by index users_pkey tests each row for "
	)
	for name, c := range map[string]struct{ index, scope, want string }{
		"no index":              {"", "email IS NULL", byKey + "(u.email IS NULL)" + create + "email IS NULL, or leave the scope out"},
		"a full index":          {"CREATE INDEX ON public.users (id, email)", "email IS NULL", create + "email IS NULL"},
		"a narrower scope":      {"CREATE INDEX sparse ON public.users (id) WHERE email IS NULL", "email IS NULL AND n = 0", "by index sparse tests each row for (u.n = 0)" + create + "email IS NULL AND n = 0"},
		"a narrower, by key":    {"CREATE INDEX sparse ON public.users (id) WHERE email IS NULL", "email IS NULL AND id > 9", "by index sparse tests each row for (u.id > 9)"},
		"a wider scope":         {"CREATE INDEX ON public.users (id) WHERE email IS NULL AND n = 0", "email IS NULL", byKey},
		"a column in the index": {"CREATE INDEX sparse ON public.users (id, n) WHERE email IS NULL", "email IS NULL AND n = 0", "by index sparse tests each row for (u.n = 0)"},
		"another predicate":     {"CREATE INDEX ON public.users (id) WHERE n = 1", "n = 2", byKey},
		"another column":        {"CREATE INDEX ON public.users (state) WHERE email IS NULL", "email IS NULL", byKey},
		"another order":         {"CREATE INDEX ON public.users (state, id) WHERE email IS NULL", "email IS NULL", byKey},
		"what the day decides":  {"CREATE INDEX ON public.users (id) WHERE email IS NULL", "email IS NULL AND now() > '2020-01-01'", "tests each row for (now() > "},
		"what chance decides":   {"CREATE INDEX ON public.users (id) WHERE email IS NULL", "email IS NULL AND random() < 0.5", "tests each row for (random() < "},
		"a subquery":            {"CREATE INDEX ON public.users (id) WHERE email IS NULL", "email IS NULL AND (SELECT true)", "tests each row for "},
		"a subquery of rows":    {"CREATE INDEX ON public.users (id) WHERE email IS NULL", "EXISTS (SELECT FROM public.users AS o WHERE o.id = n)", "; CREATE INDEX"},
		"an index of no use": {
			"CREATE INDEX sparse ON public.users (id NULLS FIRST) WHERE email IS NULL", "email IS NULL",
			byKey + "(u.email IS NULL); and the partial index sparse mixes directions or has an unusual NULLS order",
		},
		"an index that failed": {
			"CREATE INDEX sparse ON public.users (id) WHERE email IS NULL; UPDATE pg_catalog.pg_index SET indisvalid = false WHERE indexrelid = 'public.sparse'::regclass",
			"email IS NULL", byKey + "(u.email IS NULL); and the partial index sparse is not valid: its building has failed or goes on",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := withScope(t, 20_000, c.index)
			execute(t, conn, "ANALYZE public.users")
			_, err := checked(t, conn, aScoped(t, c.scope), nil)
			code, message := refusal(t, err)
			assert.Equal(t, dbgen.BBMMigrationFailureCodeInvalidCursor, code)
			assert.Contains(t, message, c.want)
		})
	}
}

func TestAScopeThatTheServerDoesNotTakeIsRefusedWithItsMessage(t *testing.T) {
	t.Parallel()
	conn := withScope(t, 100, "CREATE INDEX ON public.users (id) WHERE email IS NULL")
	for scope, want := range map[string]string{
		"emial IS NULL":             `works/w.sql:4: scope: column "emial" does not exist (Perhaps you meant to reference the column "u.email")`,
		"n":                         `works/w.sql:4: scope: argument of WHERE must be type boolean, not type integer`,
		"email IS NUL":              `works/w.sql:4: scope: syntax error at or near "NUL"`,
		"n = 'x'":                   `works/w.sql:4: scope: invalid input syntax for type integer: "x"`,
		"n = n ORDER BY id":         `works/w.sql:4: scope: syntax error at or near "ORDER"`,
		"max(n) = 1":                `works/w.sql:4: scope: aggregate functions are not allowed in WHERE`,
		"state = 'x'::public.state": `works/w.sql:4: scope: type "public.state" does not exist`,
		"email = NULL":              `works/w.sql:4: no row of public.users can be in the scope, which is never true; correct it`,
		"n / 0 = 1 AND true = id":   `works/w.sql:4: scope: operator does not exist: boolean = bigint`,
	} {
		_, err := checked(t, conn, aScoped(t, scope), nil)
		code, message := refusal(t, err)
		assert.Equal(t, dbgen.BBMMigrationFailureCodeInvalidWork, code, scope)
		assert.Contains(t, message, want, scope)
	}
	target, err := Resolve(t.Context(), conn, aScoped(t, "emial IS NULL"))
	require.NoError(t, err)
	_, err = EstimateRows(t.Context(), conn, aScoped(t, "emial IS NULL"), target)
	_, message := refusal(t, err)
	assert.Contains(t, message, `works/w.sql:4: scope: column "emial" does not exist`)
}

func TestAScopeIsReadInTheWorksSession(t *testing.T) {
	t.Parallel()
	conn := withScope(t, 2000, `
		CREATE SCHEMA app;
		CREATE FUNCTION app.odd(n bigint) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN n % 2 = 1; END';
		CREATE INDEX ON public.users (id) WHERE app.odd(id);
		ALTER TABLE public.users ADD at timestamptz;
		CREATE INDEX ON public.users (id) WHERE at < '2024-01-01 00:00+01'`)
	for _, w := range []*Work{
		aScoped(t, "odd(id)", "-- search_path: app"), aScoped(t, "at < '2024-01-01'", "-- timezone: Europe/Berlin"),
	} {
		_, err := checked(t, conn, w, nil)
		require.NoError(t, err)
		target, err := Resolve(t.Context(), conn, w)
		require.NoError(t, err)
		_, err = EstimateRows(t.Context(), conn, w, target)
		require.NoError(t, err)
	}
	_, err := checked(t, conn, aScoped(t, "at < '2024-01-01'"), nil)
	_, message := refusal(t, err)
	assert.Contains(t, message, "no index serves the scope", "midnight in UTC is another time")
}

func TestAScopesRowsAreEstimated(t *testing.T) {
	t.Parallel()
	conn := withScope(t, 100_000, "CREATE INDEX ON public.users (id) WHERE email IS NULL")
	execute(t, conn, "ANALYZE public.users")
	w := aScoped(t, "email IS NULL")
	target, err := Resolve(t.Context(), conn, w)
	require.NoError(t, err)
	rows, err := EstimateRows(t.Context(), conn, w, target)
	require.NoError(t, err)
	assert.InDelta(t, 1000, rows, 400)
	assert.InDelta(t, 100_000, target.Rows, 5000, "the table's own")
	w.Scope = ""
	rows, err = EstimateRows(t.Context(), conn, w, target)
	require.NoError(t, err)
	assert.Equal(t, target.Rows, rows)
}

func TestAStatementThatForgetsTheScopeIsAWarning(t *testing.T) {
	t.Parallel()
	conn := withScope(t, largeTable+1, "CREATE INDEX sparse ON public.users (id) WHERE email IS NULL")
	execute(t, conn, "ANALYZE public.users")
	warnings, err := checked(t, conn, aScoped(t, "email IS NULL"), nil)
	require.NoError(t, err)
	assert.Empty(t, warnings)

	w := aScoped(t, "email IS NULL")
	w.statement, err = compile(source{"w", "UPDATE public.users AS u SET n = 1 WHERE @batch(u)", 7}, w, true)
	require.NoError(t, err)
	warnings, err = checked(t, conn, w, nil)
	require.NoError(t, err)
	require.Len(t, warnings, 1)
	assert.Contains(t, warnings[0].Message, "works/w.sql: the statement does not read by the index of the scope, sparse; a range covers all of its rows")
}

func TestScopesOfPartitionedTablesWithCompositeCursors(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	execute(t, conn, `
		CREATE TABLE public.users (tenant int, id bigint, email text, n int NOT NULL DEFAULT 0, PRIMARY KEY (tenant, id)) PARTITION BY RANGE (tenant);
		CREATE TABLE public.users_1 PARTITION OF public.users FOR VALUES FROM (MINVALUE) TO (5) PARTITION BY HASH (id);
		CREATE TABLE public.users_1a PARTITION OF public.users_1 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
		CREATE TABLE public.users_1b PARTITION OF public.users_1 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
		CREATE TABLE public.users_2 PARTITION OF public.users FOR VALUES FROM (5) TO (MAXVALUE);
		CREATE INDEX ON public.users (tenant, id) WHERE email IS NULL`)
	w := aScoped(t, "email IS NULL")
	w.Cursor = []string{"tenant", "id"}
	for _, rows := range []int{0, 20_000} {
		execute(t, conn, "INSERT INTO public.users SELECT i % 10, i, CASE WHEN i % 7 > 0 THEN 'u' END FROM generate_series(1, $1::int) AS i", rows)
		warnings, err := checked(t, conn, w, nil)
		require.NoError(t, err)
		assert.Empty(t, warnings)
	}
	execute(t, conn, "CREATE INDEX ON public.users_2 (tenant) WHERE n = 0; CREATE INDEX ON public.users (tenant) WHERE n = 0; ANALYZE public.users")
	w.Scope = "n = 0"
	_, err := checked(t, conn, w, nil)
	_, message := refusal(t, err)
	assert.Contains(t, message, "; CREATE INDEX ON public.users (tenant, id) WHERE n = 0, or leave the scope out")

	execute(t, conn, "CREATE TABLE public.fresh (id bigint PRIMARY KEY, email text) PARTITION BY RANGE (id); CREATE INDEX ON public.fresh (id) WHERE email IS NULL")
	fresh := aScoped(t, "email IS NULL")
	fresh.Table = "public.fresh"
	fresh.statement, err = compile(source{"w", "DELETE FROM public.fresh AS u WHERE @batch(u)", 7}, fresh, true)
	require.NoError(t, err)
	warnings, err := checked(t, conn, fresh, nil)
	require.NoError(t, err)
	require.Len(t, warnings, 1)
	assert.Contains(t, warnings[0].Message, "works/w.sql:4: no partition of public.fresh can hold a row of the scope")
}
