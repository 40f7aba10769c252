package work

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPlacesAreSharesOfTheRange(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	execute(t, conn, `
		CREATE TABLE public.pairs (tenant int, id uuid, n int NOT NULL DEFAULT 0, PRIMARY KEY (tenant, id)) PARTITION BY LIST (tenant);
		CREATE TABLE public.pairs_1 PARTITION OF public.pairs FOR VALUES IN (1);
		CREATE TABLE public.pairs_2 PARTITION OF public.pairs DEFAULT;
		INSERT INTO public.pairs SELECT i % 3, md5(i::text)::uuid FROM generate_series(1, 3000) AS i`)
	s := on(t, "pairs", Column{"tenant", "integer"}, Column{"id", "uuid"})
	nth := func(n int) (key Key) {
		require.NoError(t, conn.QueryRow(t.Context(),
			"SELECT ARRAY[tenant::text, id::text] FROM public.pairs AS p ORDER BY p.tenant, p.id OFFSET $1 LIMIT 1", n-1).Scan((*[]string)(&key)))
		return key
	}
	places := func(until Key, shares ...float64) []Key {
		sql, values := s.Places(until, 100, shares, true)
		rows, err := conn.Query(t.Context(), sql, values...)
		require.NoError(t, err)
		keys, err := pgx.CollectRows(rows, pgx.RowTo[Key])
		require.NoError(t, err)
		return keys
	}
	assert.Equal(t, []Key{nth(1500), nth(1), nth(3000), nth(2250)}, places(nth(3000), 0.5, 0, 1, 0.75), "in the order of the shares")
	assert.Equal(t, []Key{nth(1)}, places(nth(2), 0.5), "up to the bound")

	tail := func(until Key, rows int) (key Key) {
		sql, values := s.Tail(until, rows)
		err := conn.QueryRow(t.Context(), sql, values...).Scan((*[]string)(&key))
		if rows >= 1000 {
			require.ErrorIs(t, err, pgx.ErrNoRows)
			return nil
		}
		require.NoError(t, err)
		return key
	}
	assert.Equal(t, nth(2999), tail(nth(3000), 1))
	assert.Equal(t, nth(1), tail(nth(1000), 999))
	assert.Nil(t, tail(nth(1000), 1000))
}
