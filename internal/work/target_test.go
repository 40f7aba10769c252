package work

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// aWork changes a table by a cursor; everything else is as plain as can be.
func aWork(table string, cursor ...string) *Work {
	return &Work{Name: "w", Table: table, Cursor: cursor, SearchPath: []string{"app", "public"}}
}

// refusal is the code and the message of a [DefinitionError].
func refusal(t *testing.T, err error) (dbgen.MigrationFailureCode, string) {
	t.Helper()
	var definition *DefinitionError
	require.ErrorAs(t, err, &definition)
	return definition.Code, definition.Message
}

func TestResolveFindsTheTableAndItsCursor(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	execute(t, conn, `
		CREATE SCHEMA app;
		CREATE TABLE public.users (id bigint PRIMARY KEY);
		CREATE TABLE app.orders (tenant uuid, "Nr" numeric(20, 2), placed timestamptz(3), CONSTRAINT k PRIMARY KEY (tenant, "Nr") INCLUDE (placed));
		CREATE TABLE public.orders (id int PRIMARY KEY);
		CREATE SCHEMA "Odd. ""Schema""";
		CREATE TABLE "Odd. ""Schema"""."select" ("Ünï ""x""" varchar(20) NOT NULL, "order" text COLLATE "C" NOT NULL, at timestamp NOT NULL, on_day date NOT NULL);
		CREATE UNIQUE INDEX ON "Odd. ""Schema"""."select" ("Ünï ""x""" DESC, "order" DESC, at DESC, on_day DESC);
		INSERT INTO public.users SELECT generate_series(1, 5000);
		ANALYZE public.users`)

	t.Run("an unqualified name in the search_path's order", func(t *testing.T) {
		target, err := Resolve(t.Context(), conn, aWork("orders", "tenant", "Nr"))
		require.NoError(t, err)
		assert.Equal(t, []Column{{"tenant", "uuid"}, {"Nr", "numeric"}}, target.Columns)
		assert.Equal(t, "app", target.Schema)
		assert.Equal(t, target.Oid, target.RootOid)
	})
	t.Run("a name that needs quotes", func(t *testing.T) {
		target, err := Resolve(t.Context(), conn, aWork(`"Odd. ""Schema"""."select"`, `Ünï "x"`, "order", "at", "on_day"))
		require.NoError(t, err)
		assert.Equal(t, `"Odd. ""Schema"""."select"`, target.Name)
		assert.Equal(t, []Column{
			{`Ünï "x"`, "character varying"}, {"order", "text"}, {"at", "timestamp without time zone"}, {"on_day", "date"},
		}, target.Columns)
	})
	t.Run("the estimate follows the present size", func(t *testing.T) {
		execute(t, conn, "INSERT INTO public.users SELECT generate_series(5001, 10000)")
		target, err := Resolve(t.Context(), conn, aWork("public.users", "id"))
		require.NoError(t, err)
		assert.InDelta(t, 10000, target.Rows, 500)
	})
	t.Run("a table that was never analysed is guessed", func(t *testing.T) {
		execute(t, conn, "CREATE TABLE public.fresh (id int PRIMARY KEY, pad text DEFAULT repeat('x', 100)) WITH (autovacuum_enabled = off)")
		execute(t, conn, "INSERT INTO public.fresh SELECT generate_series(1, 6000)")
		target, err := Resolve(t.Context(), conn, aWork("public.fresh", "id"))
		require.NoError(t, err)
		assert.InDelta(t, 6000, target.Rows, 1000)
	})
	t.Run("whatever the session's search_path", func(t *testing.T) {
		execute(t, conn, "SET search_path = app")
		target, err := Resolve(t.Context(), conn, aWork("users", "id"))
		require.NoError(t, err)
		assert.Equal(t, "public.users", target.Name)
	})
}

func TestResolvePartitionedTables(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	execute(t, conn, `
		CREATE TABLE public.events (id bigint, day date, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
		CREATE TABLE public.events_old PARTITION OF public.events FOR VALUES FROM ('2020-01-01') TO ('2021-01-01') PARTITION BY RANGE (id);
		CREATE TABLE public.events_old_1 PARTITION OF public.events_old FOR VALUES FROM (1) TO (1000);
		CREATE TABLE public.events_new PARTITION OF public.events FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
		INSERT INTO public.events SELECT i, '2020-05-05' FROM generate_series(1, 900) i;
		INSERT INTO public.events SELECT i, '2021-05-05' FROM generate_series(1, 900) i;
		ANALYZE public.events`)
	root, err := Resolve(t.Context(), conn, aWork("events", "day", "id"))
	require.NoError(t, err)
	assert.EqualValues(t, 1800, root.Rows)
	assert.Equal(t, root.Oid, root.RootOid)

	leaf, err := Resolve(t.Context(), conn, aWork("events_old_1", "day", "id"))
	require.NoError(t, err)
	assert.EqualValues(t, 900, leaf.Rows)
	assert.Equal(t, root.Oid, leaf.RootOid, "what two migrations may not hold at once is the whole table")

	_, err = Resolve(t.Context(), conn, aWork("events", "id"))
	_, message := refusal(t, err)
	assert.Contains(t, message, "CREATE UNIQUE INDEX ON public.events (id), or write cursor: day, id")
}

func TestResolveRefusesRelationsThatAreNoTables(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	execute(t, conn, `
		CREATE TABLE public.t (id int PRIMARY KEY);
		CREATE VIEW public.v AS SELECT id FROM public.t;
		CREATE MATERIALIZED VIEW public.mv AS SELECT id FROM public.t;
		CREATE SEQUENCE public.s;
		CREATE TABLE public.parent (id int PRIMARY KEY);
		CREATE TABLE public.child () INHERITS (public.parent);
		CREATE EXTENSION postgres_fdw;
		CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw;
		CREATE FOREIGN TABLE public.far (id int NOT NULL) SERVER elsewhere;
		CREATE TABLE public.mixed (id int NOT NULL) PARTITION BY RANGE (id);
		CREATE TABLE public.mixed_1 PARTITION OF public.mixed FOR VALUES FROM (1) TO (100) PARTITION BY RANGE (id);
		CREATE FOREIGN TABLE public.mixed_far PARTITION OF public.mixed_1 FOR VALUES FROM (1) TO (100) SERVER elsewhere`)
	for table, want := range map[string]string{
		"missing":        "table missing does not exist in the search_path app, public; correct the work's table, or create it first",
		"public.missing": "table public.missing does not exist; correct the work's table, or create it first",
		"nowhere.t":      "table nowhere.t does not exist",
		"v":              "public.v is a view; a work changes the rows of a plain or a partitioned table",
		"mv":             "public.mv is a materialized view",
		"s":              "public.s is a sequence",
		"t_pkey":         "public.t_pkey is an index",
		"parent":         "public.parent has tables that inherit from it",
		"far":            "public.far is a foreign table, whose rows commit on another server",
		"mixed":          "public.mixed has the foreign partition public.mixed_far, whose rows commit on another server",
		"mixed_1":        "public.mixed_1 has the foreign partition public.mixed_far",
	} {
		_, err := Resolve(t.Context(), conn, aWork(table, "id"))
		code, message := refusal(t, err)
		assert.Equal(t, dbgen.BBMMigrationFailureCodeInvalidTable, code, table)
		assert.Contains(t, message, want, table)
	}
}

func TestResolveRefusesCursors(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	execute(t, conn, `
		CREATE EXTENSION citext SCHEMA public;
		CREATE DOMAIN public.positive AS int;
		CREATE TYPE public.mood AS ENUM ('sad', 'happy');
		CREATE COLLATION public.other (LOCALE = 'POSIX');
		CREATE TABLE public.t (
			id bigint PRIMARY KEY, maybe int UNIQUE, lonely int NOT NULL, many int NOT NULL, part int NOT NULL, expr int NOT NULL,
			hashed int NOT NULL, a int NOT NULL, b int NOT NULL, mixed_a int NOT NULL, mixed_b int NOT NULL, nulls int NOT NULL,
			pattern text NOT NULL, collated text NOT NULL, broken int NOT NULL, three_a int NOT NULL, three_b int NOT NULL,
			fixed char(5) NOT NULL UNIQUE, real real NOT NULL UNIQUE, mood public.mood NOT NULL UNIQUE, positive public.positive NOT NULL UNIQUE,
			ci public.citext NOT NULL UNIQUE, flag boolean NOT NULL UNIQUE, list int[] NOT NULL UNIQUE, UNIQUE (three_a, three_b), UNIQUE (b, a)
		);
		CREATE INDEX t_many ON public.t (many);
		CREATE UNIQUE INDEX t_part ON public.t (part) WHERE part > 0;
		CREATE UNIQUE INDEX t_expr ON public.t ((expr + 1));
		CREATE INDEX t_hashed ON public.t USING hash (hashed);
		CREATE UNIQUE INDEX t_mixed ON public.t (mixed_a, mixed_b DESC);
		CREATE UNIQUE INDEX t_nulls ON public.t (nulls NULLS FIRST);
		CREATE UNIQUE INDEX t_pattern ON public.t (pattern text_pattern_ops);
		CREATE UNIQUE INDEX t_collated ON public.t (collated COLLATE public.other);
		CREATE UNIQUE INDEX t_broken ON public.t (broken);
		UPDATE pg_catalog.pg_index SET indisvalid = false WHERE indexrelid = 'public.t_broken'::regclass`)
	const suffix = "; CREATE UNIQUE INDEX CONCURRENTLY ON public.t ("
	for _, c := range []struct {
		cursor []string
		want   string
	}{
		{[]string{"idd"}, "public.t has no column idd; did you mean id?"},
		{[]string{"ctid"}, "public.t has no column ctid"},
		{[]string{"maybe"}, "column maybe of public.t may be NULL, and such rows are in no batch"},
		{[]string{"lonely"}, "no unique index of public.t has exactly the cursor's columns (lonely)" + suffix + "lonely), or write cursor: id"},
		{[]string{"many"}, `the cursor's index t_many is not unique; add "-- repeated_keys: yes" to the work`},
		{[]string{"part"}, "the cursor's index t_part is partial"},
		{[]string{"expr"}, "no unique index of public.t has exactly the cursor's columns (expr)"},
		{[]string{"hashed"}, "the cursor's index t_hashed is of the type hash"},
		{[]string{"mixed_a", "mixed_b"}, "the cursor's index t_mixed mixes directions"},
		{[]string{"nulls"}, "the cursor's index t_nulls mixes directions or has an unusual NULLS order"},
		{[]string{"pattern"}, "the cursor's index t_pattern has an operator class that is not the default"},
		{[]string{"collated"}, "the cursor's index t_collated has another collation than its column"},
		{[]string{"broken"}, "the cursor's index t_broken is not valid"},
		{[]string{"a", "b"}, "no index of public.t is on (a, b), but t_b_a_key is on the same columns in another order; write cursor: b, a"},
		{[]string{"three_a"}, "no unique index of public.t has exactly the cursor's columns (three_a)"},
		{[]string{"id", "a"}, "no unique index of public.t has exactly the cursor's columns (id, a)"},
		{[]string{"fixed"}, "column fixed of public.t has the type character, whose keys would not keep their order; a cursor's columns are of smallint"},
		{[]string{"real"}, "has the type real"},
		{[]string{"mood"}, "has the type public.mood"},
		{[]string{"positive"}, "has the type public.positive"},
		{[]string{"ci"}, "has the type public.citext"},
		{[]string{"flag"}, "has the type boolean"},
		{[]string{"list"}, "has the type integer[]"},
	} {
		_, err := Resolve(t.Context(), conn, aWork("public.t", c.cursor...))
		code, message := refusal(t, err)
		assert.Equal(t, dbgen.BBMMigrationFailureCodeInvalidCursor, code, c.cursor)
		assert.Contains(t, message, c.want, c.cursor)
	}

	t.Run("repeated keys admit an index that is not unique", func(t *testing.T) {
		w := aWork("public.t", "many")
		w.RepeatedKeys = true
		target, err := Resolve(t.Context(), conn, w)
		require.NoError(t, err)
		assert.True(t, target.Repeated)
		w.Cursor = []string{"lonely"}
		_, err = Resolve(t.Context(), conn, w)
		_, message := refusal(t, err)
		assert.Contains(t, message, "no index of public.t has exactly the cursor's columns (lonely); CREATE INDEX CONCURRENTLY ON public.t (lonely)")
	})
	t.Run("the best cursor is suggested", func(t *testing.T) {
		columns, err := SuggestCursor(t.Context(), conn, "public.t", nil)
		require.NoError(t, err)
		assert.Equal(t, []string{"id"}, columns)
		execute(t, conn, "ALTER TABLE public.t DROP CONSTRAINT t_pkey")
		columns, err = SuggestCursor(t.Context(), conn, "t", []string{"public"})
		require.NoError(t, err)
		assert.Equal(t, []string{"b", "a"}, columns)
		execute(t, conn, "CREATE TABLE public.bare (id int)")
		_, err = SuggestCursor(t.Context(), conn, "public.bare", nil)
		_, message := refusal(t, err)
		assert.Contains(t, message, "public.bare has no unique index that can serve as a cursor")
	})
}

func TestANotNullThatOldRowsMayBreakIsRefused(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	var version int
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT current_setting('server_version_num')::int").Scan(&version))
	if version < 180000 {
		t.Skip("before PostgreSQL 18 every NOT NULL is proved")
	}
	execute(t, conn, `
		CREATE TABLE public.t (id int UNIQUE);
		INSERT INTO public.t VALUES (NULL);
		ALTER TABLE public.t ADD CONSTRAINT n NOT NULL id NOT VALID`)
	_, err := Resolve(t.Context(), conn, aWork("public.t", "id"))
	_, message := refusal(t, err)
	assert.Contains(t, message, "may be NULL")
}

func TestAnUnreachableSchemaIsRefused(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	execute(t, conn, `CREATE SCHEMA closed; CREATE TABLE closed.t (id int PRIMARY KEY)`)
	err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), "CREATE ROLE bbm_test_nobody; SET LOCAL ROLE bbm_test_nobody"); err != nil {
			return err
		}
		_, err := Resolve(t.Context(), tx, aWork("closed.t", "id"))
		_, message := refusal(t, err)
		assert.Contains(t, message, "permission denied for schema closed; GRANT USAGE ON SCHEMA closed")
		return err
	})
	require.Error(t, err) // rolled back: roles are shared by all databases of a server
}
