package work

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// withBig makes public.users beside public.big of 120,000 rows, where no index finds user_id;
// public.served is the same with one.
func withBig(t *testing.T) *pgx.Conn {
	t.Helper()
	conn := withUsers(t, 20_000)
	execute(t, conn, `
		CREATE TABLE public.big (id bigint PRIMARY KEY, user_id bigint NOT NULL, word text NOT NULL, lo int NOT NULL);
		INSERT INTO public.big SELECT i, i % 20000, 'w' || i, i FROM generate_series(1, 120000) AS i;
		CREATE TABLE public.served (LIKE public.big INCLUDING ALL);
		INSERT INTO public.served SELECT * FROM public.big;
		CREATE INDEX served_user_id ON public.served (user_id);
		CREATE TABLE public.parts (LIKE public.big) PARTITION BY HASH (id);
		CREATE TABLE public.parts_1 PARTITION OF public.parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
		CREATE TABLE public.parts_2 PARTITION OF public.parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
		INSERT INTO public.parts SELECT * FROM public.big;
		CREATE TABLE public.small (user_id bigint NOT NULL, word text NOT NULL);
		INSERT INTO public.small SELECT i, 'w' FROM generate_series(1, 2000) AS i;
		CREATE TABLE public.tiny (user_id bigint NOT NULL);
		INSERT INTO public.tiny SELECT generate_series(1, 20)`)
	execute(t, conn, "VACUUM ANALYZE")
	return conn
}

// plain is a work on public.users without arguments.
func plain(t *testing.T, statement string) *Work {
	t.Helper()
	w, err := Parse("w", []byte("-- description: for a test\n-- table: public.users\n-- cursor: id\n\n-- +bbm Work\n"+statement))
	require.NoError(t, err)
	w.Path = "works/w.sql"
	return w
}

func TestWhatAStatementReadsOfOtherTablesIsJudged(t *testing.T) {
	t.Parallel()
	conn := withBig(t)
	t.Run("a large table that is read again for each row is refused", func(t *testing.T) { aLargeTableThatIsReadAgainForEachRowIsRefused(t, conn) })
	t.Run("what costs no full scan for each row passes", func(t *testing.T) { whatCostsNoFullScanForEachRowPasses(t, conn) })
	t.Run("a large table that is read once for each sub-batch is a warning", func(t *testing.T) { aLargeTableThatIsReadOnceForEachSubBatchIsAWarning(t, conn) })
	t.Run("a small table that is read again for each row is a warning", func(t *testing.T) { aSmallTableThatIsReadAgainForEachRowIsAWarning(t, conn) })
}

func aLargeTableThatIsReadAgainForEachRowIsRefused(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	for name, statement := range map[string]string{
		"a subquery in SET":            "UPDATE public.users AS u SET n = (SELECT count(*) FROM public.big AS b WHERE b.user_id = u.id) WHERE @batch(u)",
		"a subquery in WHERE":          "UPDATE public.users AS u SET n = 1 WHERE @batch(u) AND (SELECT count(*) FROM public.big AS b WHERE b.user_id = u.id) > 3",
		"EXISTS that cannot be a join": "UPDATE public.users AS u SET n = 1 WHERE @batch(u) AND (u.n > 0 OR EXISTS (SELECT FROM public.big AS b WHERE b.user_id = u.id AND b.lo > u.n))",
		"a lateral subquery": "UPDATE public.users AS u SET n = s.n FROM public.users AS v, LATERAL (SELECT count(*) AS n FROM public.big AS b WHERE b.user_id = v.id) AS s " +
			"WHERE @batch(v) AND u.id = v.id",
		"NOT IN that cannot be hashed":             "DELETE FROM public.users AS u WHERE @batch(u) AND u.email NOT IN (SELECT b.word FROM public.big AS b WHERE b.lo > u.n)",
		"a join on a range":                        "UPDATE public.users AS u SET n = 1 FROM public.big AS b WHERE @batch(u) AND b.lo BETWEEN u.n AND u.n + 1",
		"partitions, each of them less than large": "UPDATE public.users AS u SET n = (SELECT count(*) FROM public.parts AS p WHERE p.user_id = u.id) WHERE @batch(u)",
		"in a CTE": "WITH b AS (SELECT u.id, (SELECT max(b.id) FROM public.big AS b WHERE b.user_id = u.id) AS m FROM public.users AS u WHERE @batch(u)) " +
			"UPDATE public.users AS u SET n = b.m FROM b WHERE b.id = u.id",
	} {
		_, err := checked(t, conn, plain(t, statement), nil)
		if !assert.Error(t, err, name) {
			continue
		}
		code, message := refusal(t, err)
		assert.Equal(t, dbgen.BBMMigrationFailureCodeInvalidWork, code, name)
		assert.Regexp(t, `^works/w\.sql: .*public\.(big|parts) \(about 1[12]\d,\d{3} rows\).* again .*index`, message, name)
	}
}

func whatCostsNoFullScanForEachRowPasses(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	for name, statement := range map[string]string{
		"an index for it": "UPDATE public.users AS u SET n = (SELECT count(*) FROM public.served AS b WHERE b.user_id = u.id) WHERE @batch(u)",
		"a lateral lookup": "UPDATE public.users AS u SET n = s.lo FROM public.users AS v, LATERAL (SELECT b.lo FROM public.served AS b WHERE b.user_id = v.id ORDER BY b.id LIMIT 1) AS s " +
			"WHERE @batch(v) AND u.id = v.id",
		"a tiny table": "UPDATE public.users AS u SET n = (SELECT count(*) FROM public.tiny AS b WHERE b.user_id = u.id) WHERE @batch(u)",
		"a first row":  "UPDATE public.users AS u SET n = (SELECT b.id FROM public.big AS b WHERE b.lo > u.n LIMIT 1) WHERE @batch(u)",
		"a lookup":     "UPDATE public.users AS u SET email = (SELECT b.word FROM public.big AS b WHERE b.id = u.id) WHERE @batch(u)",
		"the last one": "UPDATE public.users AS u SET n = (SELECT max(b.id) FROM public.big AS b) WHERE @batch(u)",
		"a few rows that each row is compared with": "UPDATE public.users AS u SET n = 1 FROM public.tiny AS y WHERE @batch(u) AND y.user_id < u.n",
		"a CTE's rows": "WITH b AS MATERIALIZED (SELECT u.id FROM public.users AS u WHERE @batch(u)) UPDATE public.users AS u SET n = 1 FROM b WHERE b.id = u.id AND u.id < 500",
	} {
		warnings, err := checked(t, conn, plain(t, statement), nil)
		require.NoError(t, err, name)
		assert.Empty(t, warnings, name)
	}
}

func aLargeTableThatIsReadOnceForEachSubBatchIsAWarning(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	for name, statement := range map[string]string{
		"a join":            "UPDATE public.users AS u SET n = 1 FROM public.big AS b WHERE @batch(u) AND b.user_id = u.id",
		"a hashed subquery": "UPDATE public.users AS u SET n = 1 WHERE @batch(u) AND (u.n > 3 OR u.id IN (SELECT b.user_id FROM public.big AS b WHERE b.lo < 5000))",
		"an answer that is kept": "UPDATE public.users AS u SET n = s.c FROM public.users AS v, LATERAL (SELECT count(*) AS c FROM public.big AS b WHERE b.user_id = v.n) AS s " +
			"WHERE @batch(v) AND u.id = v.id",
		"an aggregate": "UPDATE public.users AS u SET n = (SELECT count(*) FROM public.big AS b WHERE b.word LIKE '%7') WHERE @batch(u)",
	} {
		warnings, err := checked(t, conn, plain(t, statement), nil)
		require.NoError(t, err, name)
		require.Len(t, warnings, 1, name)
		assert.Equal(t, "full_scan", warnings[0].Code, name)
		assert.Contains(t, warnings[0].Message, "all of public.big (about 120,000 rows) is read for each sub-batch", name)
	}
}

func aSmallTableThatIsReadAgainForEachRowIsAWarning(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	warnings, err := checked(t, conn, plain(t, "UPDATE public.users AS u SET n = (SELECT count(*) FROM public.small AS s WHERE s.user_id = u.id) WHERE @batch(u)"), nil)
	require.NoError(t, err)
	require.Len(t, warnings, 1)
	assert.Equal(t, "no_index", warnings[0].Code)
	assert.Contains(t, warnings[0].Message, "all of public.small (about 2,000 rows) is read again for rows of the batch, about 1,000 times")
	assert.Contains(t, warnings[0].Message, "with 100,000 rows or more it is refused")
}
