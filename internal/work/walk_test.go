package work

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

// TestMain lets every test of the package ask for a database.
func TestMain(m *testing.M) { dbtest.Main(m) }

// connect gives a session like the runner's on a database of its own.
func connect(t testing.TB) *pgx.Conn {
	t.Helper()
	conn := dbtest.Connect(t, dbtest.NewEmpty(t))
	execute(t, conn, "SET search_path = pg_catalog")
	execute(t, conn, "SET TimeZone = 'UTC'")
	return conn
}

func execute(t testing.TB, conn *pgx.Conn, sql string, values ...any) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql, values...)
	require.NoError(t, err, sql)
}

// bound is one answer of a boundary query.
type bound struct {
	key   Key
	rows  int64
	ended bool
}

// pieces asks for the ends of the next total rows of the range, in pieces of limit rows.
func pieces(t testing.TB, conn *pgx.Conn, s *Statements, r Range, limit, total int) []bound {
	t.Helper()
	sql, values := s.Boundary(r, limit, total)
	answer, err := conn.Query(t.Context(), sql, values...)
	require.NoError(t, err, sql)
	var next int64
	bounds, err := pgx.CollectRows(answer, func(row pgx.CollectableRow) (b bound, err error) {
		var piece int64
		err = row.Scan(&piece, &b.key, &b.rows, &b.ended)
		next++
		require.Equal(t, next, piece)
		return b, err
	})
	require.NoError(t, err, sql)
	return bounds
}

// boundary asks where a piece of the range ends; false when the range holds no row.
func boundary(t testing.TB, conn *pgx.Conn, s *Statements, r Range, limit int) (bound, bool) {
	t.Helper()
	bounds := pieces(t, conn, s, r, limit, limit)
	if len(bounds) == 0 {
		return bound{}, false
	}
	require.Len(t, bounds, 1)
	b := bounds[0]
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
func lastKey(t testing.TB, conn *pgx.Conn, s *Statements) Key {
	t.Helper()
	var key Key
	if err := conn.QueryRow(t.Context(), s.LastKey()).Scan(&key); !errors.Is(err, pgx.ErrNoRows) {
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

// checkPieces proves that many pieces found in one walk are those that are found one by one.
func checkPieces(t *testing.T, conn *pgx.Conn, s *Statements, r Range, limit, total int) {
	t.Helper()
	found := pieces(t, conn, s, r, limit, total)
	var rows int64
	for _, piece := range found {
		one, ok := boundary(t, conn, s, r, min(limit, total-int(rows)))
		require.True(t, ok)
		require.Equal(t, one, piece)
		rows += piece.rows
		r.After = piece.key
	}
	if rows >= int64(total) || found != nil && found[len(found)-1].ended {
		return
	}
	rest, ok := boundary(t, conn, s, r, min(limit, total-int(rows)))
	require.True(t, !ok || found != nil && rest.ended, "the walk stopped before %v, %d of %d rows found", rest, rows, total)
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
