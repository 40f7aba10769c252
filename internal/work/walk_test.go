package work

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// connect gives a session like the runner's on a database of its own.
func connect(t *testing.T) *pgx.Conn {
	t.Helper()
	conn := dbtest.Connect(t, dbtest.NewEmpty(t))
	execute(t, conn, "SET search_path = pg_catalog")
	execute(t, conn, "SET TimeZone = 'UTC'")
	return conn
}

func execute(t *testing.T, conn *pgx.Conn, sql string, values ...any) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql, values...)
	require.NoError(t, err, sql)
}

// piece is one answer of a boundary query.
type bound struct {
	key   Key
	rows  int64
	ended bool
}

// boundary asks where a piece of the range ends; false when the range holds no row.
func boundary(t *testing.T, conn *pgx.Conn, s *Statements, r Range, limit int) (bound, bool) {
	t.Helper()
	var b bound
	sql, values := s.Boundary(r, limit)
	err := conn.QueryRow(t.Context(), sql, values...).Scan(&b.key, &b.rows, &b.ended)
	if err == pgx.ErrNoRows {
		return b, false
	}
	require.NoError(t, err, sql)
	if b.ended {
		require.Equal(t, r.Until, b.key, "a piece that reaches the end ends at the range's own key")
	}
	if !s.target.Repeated {
		require.True(t, b.rows == int64(limit) || b.ended && b.rows < int64(limit), "%d rows, asked for %d", b.rows, limit)
	} else {
		require.True(t, b.rows >= int64(limit) || b.ended, "%d rows, asked for %d", b.rows, limit)
	}
	return b, true
}

// lastKey is the greatest key; nil in an empty table.
func lastKey(t *testing.T, conn *pgx.Conn, s *Statements) Key {
	t.Helper()
	var key Key
	if err := conn.QueryRow(t.Context(), s.LastKey()).Scan(&key); err != pgx.ErrNoRows {
		require.NoError(t, err, s.LastKey())
	}
	return key
}

// walk cuts a range into pieces of at most limits[0] rows, these into pieces of at most limits[1] rows and so on, as migrations, jobs and
// sub-batches are cut, runs the work on the smallest, and returns how many rows it changed.
func walk(t *testing.T, conn *pgx.Conn, s *Statements, r Range, limits ...int) (changed int64) {
	t.Helper()
	if len(limits) == 0 {
		sql, values, err := s.Work(r, nil)
		require.NoError(t, err)
		tag, err := conn.Exec(t.Context(), sql, values...)
		require.NoError(t, err, sql)
		return tag.RowsAffected()
	}
	for after := r.After; ; {
		b, found := boundary(t, conn, s, Range{after, r.Until}, limits[0])
		if !found {
			return changed
		}
		part := walk(t, conn, s, Range{after, b.key}, limits[1:]...)
		require.Equal(t, b.rows, part, "rows of (%q, %q]", after, b.key)
		changed += part
		if b.ended {
			return changed
		}
		require.NotEqual(t, after, b.key)
		after = b.key
	}
}

// texts gives values of every type that a cursor may have, the awkward ones first.
var texts = map[string]func(r *rand.Rand) []string{
	"smallint": func(r *rand.Rand) []string {
		return many([]string{"-32768", "32767", "0"}, func() string { return fmt.Sprint(r.IntN(65536) - 32768) })
	},
	"integer": func(r *rand.Rand) []string {
		return many([]string{"-2147483648", "2147483647", "0", "-1"}, func() string { return fmt.Sprint(r.Int32() - 1<<30) })
	},
	"bigint": func(r *rand.Rand) []string {
		return many([]string{"-9223372036854775808", "9223372036854775807", "-1"}, func() string { return fmt.Sprint(r.Int64() - 1<<62) })
	},
	"numeric": func(r *rand.Rand) []string {
		return many([]string{"NaN", "Infinity", "-Infinity", "0.00", "1e-300", "1e300", "-0.5", "1.0", "123456789012345678901234567890.123456789"},
			func() string { return fmt.Sprintf("%d.%0*d", r.IntN(20)-10, 1+r.IntN(5), r.IntN(10)) })
	},
	"uuid": func(r *rand.Rand) []string {
		return many([]string{"00000000-0000-0000-0000-000000000000", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"},
			func() string { return fmt.Sprintf("%016x%016x", r.Uint64(), r.Uint64()) })
	},
	"text":              randomTexts,
	"character varying": randomTexts,
	"date": func(r *rand.Rand) []string {
		return many([]string{"infinity", "-infinity", "0044-03-15 BC", "4714-11-24 BC", "5874897-12-31", "0001-01-01"},
			func() string { return fmt.Sprintf("%04d-%02d-%02d", 1+r.IntN(3000), 1+r.IntN(12), 1+r.IntN(28)) })
	},
	"timestamp without time zone": randomTimes,
	"timestamp with time zone":    randomTimes,
}

func randomTexts(r *rand.Rand) []string {
	letters := []rune(`aAbBzZ 'é"ß\日{},_-%$1👍` + "\t\n\u0301")
	return many([]string{"", " ", "a ", "a", "null", "NULL", `\`, `\\`, `"`, `''`, "{}", "$1", "\r\n"}, func() string {
		var word strings.Builder
		for range r.IntN(6) {
			word.WriteRune(letters[r.IntN(len(letters))])
		}
		return word.String()
	})
}

func randomTimes(r *rand.Rand) []string {
	return many([]string{"infinity", "-infinity", "0044-03-15 12:00:00.000001 BC", "4713-01-01 00:00:00 BC", "294276-12-31 23:59:59.999999", "1883-11-18 12:03:57"},
		func() string {
			return fmt.Sprintf("%04d-%02d-%02d %02d:30:00.%06d", 1800+r.IntN(300), 1+r.IntN(12), 1+r.IntN(28), r.IntN(24), r.IntN(1_000_000))
		})
}

// many adds random values to the given ones.
func many(values []string, random func() string) []string {
	for range 150 {
		values = append(values, random())
	}
	return values
}

// keyTable is a table with a cursor of its own.
type keyTable struct {
	types     []string
	columns   []string // their definitions, where they are not just the types
	partition string
	order     string // DESC for an index that runs backwards
	repeated  bool
}

// create makes the table "Odd ""Schema"".x"."T; --" with the columns "K 1", "K 2", …, fills it with random rows and returns the work that
// counts each row's changes, on it.
func (k keyTable) create(t *testing.T, conn *pgx.Conn, r *rand.Rand) *Statements {
	t.Helper()
	const schema, table = `Odd "Schema".x`, "T; --"
	quoted := pgx.Identifier{schema, table}.Sanitize()
	target := Target{Schema: schema, Table: table, Repeated: k.repeated}
	var definitions, cursor, indexed, casts []string
	for i, name := range k.types {
		column := fmt.Sprintf(`"K %d"`, i+1)
		definition := name
		if k.columns != nil {
			definition = k.columns[i]
		}
		target.Columns = append(target.Columns, Column{column[1 : len(column)-1], name})
		definitions = append(definitions, column+" "+definition+" NOT NULL")
		cursor = append(cursor, column)
		indexed = append(indexed, column+" "+k.order)
		casts = append(casts, fmt.Sprintf("($%d::text[])[i]::%s", i+1, name))
	}
	execute(t, conn, "CREATE SCHEMA "+pgx.Identifier{schema}.Sanitize())
	execute(t, conn, fmt.Sprintf("CREATE TABLE %s (%s, n int NOT NULL DEFAULT 0) %s", quoted, strings.Join(definitions, ", "), k.partition))
	for i := range strings.Count(k.partition, "HASH") * 3 {
		execute(t, conn, fmt.Sprintf("CREATE TABLE %s PARTITION OF %s FOR VALUES WITH (MODULUS 3, REMAINDER %d)", pgx.Identifier{schema, fmt.Sprint("part", i)}.Sanitize(), quoted, i))
	}
	if strings.Contains(k.partition, "RANGE") {
		execute(t, conn, fmt.Sprintf("CREATE TABLE %s PARTITION OF %s FOR VALUES FROM (MINVALUE) TO (0)", pgx.Identifier{schema, "low"}.Sanitize(), quoted))
		execute(t, conn, fmt.Sprintf("CREATE TABLE %s PARTITION OF %s DEFAULT", pgx.Identifier{schema, "rest"}.Sanitize(), quoted))
	}
	unique := "UNIQUE"
	if k.repeated {
		unique = ""
	}
	execute(t, conn, fmt.Sprintf("CREATE %s INDEX ON %s (%s)", unique, quoted, strings.Join(indexed, ", ")))

	w := &Work{
		Name: "count", Table: quoted, Cursor: cursor,
	}
	src := fmt.Sprintf("UPDATE %s AS \"A b\" SET n = n + 1 WHERE @batch(\"A b\")", quoted)
	statement, err := compile(source{"count", src, 1}, w, true)
	require.NoError(t, err)
	w.statement = statement

	values := make([]any, len(k.types))
	for i, name := range k.types {
		picked := texts[name](r)
		if i < len(k.types)-1 || k.repeated {
			picked = picked[:12] // few leading values, so that ranges share them
		}
		column := make([]string, 600)
		for j := range column {
			column[j] = picked[r.IntN(len(picked))]
		}
		values[i] = column
	}
	execute(t, conn, fmt.Sprintf("INSERT INTO %s SELECT %s, 0 FROM generate_series(1, 600) AS i ON CONFLICT DO NOTHING", quoted, strings.Join(casts, ", ")), values...)
	return NewStatements(w, target)
}

// check walks the table with several pairs of limits; afterwards each row was changed once by each walk.
func (k keyTable) check(t *testing.T, conn *pgx.Conn, r *rand.Rand) {
	t.Helper()
	s := k.create(t, conn, r)
	var total int64
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM "+s.from).Scan(&total))
	require.Positive(t, total)
	until := lastKey(t, conn, s)
	walks := [][]int{{1}, {7}, {10, 3}, {100, 33, 7}, {64, 8}, {int(total)}, {int(total) + 1, int(total) - 1}}
	for _, limits := range walks {
		require.Equal(t, total, walk(t, conn, s, Range{nil, until}, limits...), "limits %v", limits)
	}
	var wrong int64
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM "+s.from+" WHERE n <> $1", len(walks)).Scan(&wrong))
	assert.Zero(t, wrong, "rows that were not changed exactly once by each walk")
}

func TestEveryRowIsMetOnceWhateverTheCursor(t *testing.T) {
	t.Parallel()
	tables := map[string]keyTable{
		"varchar with a length":    {types: []string{"character varying"}, columns: []string{"varchar(20)"}},
		"numeric with a scale":     {types: []string{"numeric", "integer"}, columns: []string{"numeric", "int"}},
		"text in bytes' order":     {types: []string{"text"}, columns: []string{`text COLLATE "C"`}},
		"tenant and id":            {types: []string{"integer", "bigint"}},
		"text and uuid":            {types: []string{"text", "uuid"}},
		"varchar and text":         {types: []string{"character varying", "text"}},
		"time and id":              {types: []string{"timestamp with time zone", "smallint"}},
		"three columns":            {types: []string{"date", "text", "bigint"}},
		"three other columns":      {types: []string{"numeric", "timestamp without time zone", "uuid"}},
		"a backward index":         {types: []string{"integer", "text"}, order: "DESC"},
		"hash partitions":          {types: []string{"integer", "bigint"}, partition: `PARTITION BY HASH ("K 1")`},
		"range partitions":         {types: []string{"integer", "bigint"}, partition: `PARTITION BY RANGE ("K 1")`},
		"one column's partitions":  {types: []string{"bigint"}, partition: `PARTITION BY RANGE ("K 1")`},
		"repeated keys":            {types: []string{"text"}, repeated: true},
		"repeated pairs":           {types: []string{"integer", "date"}, repeated: true},
		"repeated keys, backwards": {types: []string{"integer"}, repeated: true, order: "DESC"},
	}
	for _, name := range KeyTypes() {
		tables["one "+name] = keyTable{types: []string{name}}
	}
	for name, table := range tables {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			table.check(t, connect(t), rand.New(rand.NewPCG(1, uint64(len(name)))))
		})
	}
}

func TestRowsAreMetOnceUnderALanguagesCollation(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	_, err := conn.Exec(t.Context(), "CREATE COLLATION pg_catalog.any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
	if err != nil {
		t.Skip("this server was built without ICU")
	}
	keyTable{types: []string{"text", "text"}, columns: []string{"text COLLATE any_case", `text COLLATE "de-x-icu"`}}.check(t, conn, rand.New(rand.NewPCG(1, 2)))
}

func TestAnEmptyTableHasNoLastKeyAndAnEmptyRangeNoBoundary(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	execute(t, conn, "CREATE TABLE public.users (id bigint PRIMARY KEY, n int)")
	s := NewStatements(goWork(), users)
	assert.Nil(t, lastKey(t, conn, s))
	_, found := boundary(t, conn, s, Range{nil, Key{"9"}}, 5)
	assert.False(t, found)

	execute(t, conn, "INSERT INTO public.users SELECT i FROM generate_series(1, 10) i")
	_, found = boundary(t, conn, s, Range{Key{"10"}, Key{"99"}}, 5)
	assert.False(t, found)
	_, found = boundary(t, conn, s, Range{Key{"5"}, Key{"5"}}, 5)
	assert.False(t, found)
	b, found := boundary(t, conn, s, Range{Key{"8"}, Key{"99"}}, 2)
	assert.True(t, found)
	assert.Equal(t, bound{Key{"10"}, 2, false}, b, "rows may come below 99")
	b, _ = boundary(t, conn, s, Range{Key{"8"}, Key{"010"}}, 2)
	assert.Equal(t, bound{Key{"010"}, 2, true}, b, "the server compares keys as numbers")
}

func TestAGoWorkRunsItsStatementsInTheBatch(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	execute(t, conn, "CREATE TABLE public.users (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0)")
	execute(t, conn, "INSERT INTO public.users SELECT i FROM generate_series(1, 10) i")
	w := goWork()
	w.Arguments = []Argument{{"step", "int"}}
	w.Do = func(ctx context.Context, tx pgx.Tx, b Batch) (int64, error) {
		return b.Exec(ctx, tx, "UPDATE public.users AS u SET n = n + @step WHERE @batch(u)")
	}
	step := "3"
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	affected, err := w.Do(t.Context(), tx, NewStatements(w, users).Batch("m", Range{Key{"2"}, Key{"6"}}, Arguments{"step": &step}, 1))
	require.NoError(t, err)
	require.NoError(t, tx.Commit(t.Context()))
	assert.EqualValues(t, 4, affected)
	var sum int
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT sum(n) FROM public.users WHERE id BETWEEN 3 AND 6").Scan(&sum))
	assert.Equal(t, 12, sum)
}

func TestArgumentCheckRaisesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	w := goWork()
	w.Arguments = []Argument{{"list", "int[]"}, {"price", "numeric(4,2)"}, {"at", "timestamp (3) with time zone"}}
	s := NewStatements(w, users)
	check := func(name, text string) error {
		sql, values := s.ArgumentCheck(Arguments{name: &text})
		_, err := conn.Exec(t.Context(), sql, values...)
		return err
	}
	for name, text := range map[string]string{"list": "{1,2}", "price": "99.99", "at": "2024-02-29 12:00+02"} {
		assert.NoError(t, check(name, text))
	}
	for name, text := range map[string]string{"list": "1", "price": "100", "at": "yesterday noon"} {
		assert.Error(t, check(name, text))
	}
}

func TestTheExampleWorksRun(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	execute(t, conn, `
CREATE TABLE public.users (id bigint PRIMARY KEY, email text, email_lower text);
INSERT INTO public.users SELECT i, 'A' || i || '@example.com' FROM generate_series(1, 10) AS i;
CREATE SCHEMA shop;
CREATE TABLE shop.tenants (id int PRIMARY KEY, tax_rate numeric);
INSERT INTO shop.tenants SELECT i, 0.19 FROM generate_series(1, 4) AS i;
CREATE TABLE shop.order_lines (tenant_id int, id bigint, gross_price numeric, net_price numeric, tax numeric, PRIMARY KEY (tenant_id, id));
INSERT INTO shop.order_lines SELECT i % 4 + 1, i, 119 FROM generate_series(1, 10) AS i;
CREATE TABLE public.sessions (id uuid PRIMARY KEY, ended_at timestamptz);
INSERT INTO public.sessions SELECT gen_random_uuid(), '2024-01-01 UTC'::timestamptz + i * interval '1 day' FROM generate_series(1, 10) AS i;`)
	domain, before := "example.com", "2024-02-01"
	arguments := Arguments{"domain": &domain, "before": &before}
	types := map[string]string{"tenant_id": "integer", "id": "bigint"}
	works, err := LoadDir("../../works")
	require.NoError(t, err)
	for _, w := range works {
		table, err := w.TableName()
		require.NoError(t, err)
		target := Target{Schema: table[0], Table: table[1]}
		for _, name := range w.Cursor {
			column := Column{name, types[name]}
			if w.Name == "sessions_delete_expired" {
				column.Type = "uuid"
			}
			target.Columns = append(target.Columns, column)
		}
		s := NewStatements(w, target)
		sql, values, err := s.Work(Range{nil, lastKey(t, conn, s)}, arguments)
		require.NoError(t, err)
		tag, err := conn.Exec(t.Context(), sql, values...)
		require.NoError(t, err, w.Name)
		assert.EqualValues(t, 10, tag.RowsAffected(), w.Name)
	}
}
