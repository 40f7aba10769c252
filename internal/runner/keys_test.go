package runner_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// counter is a work that counts on the column n how often each row was changed. Table, cursor and headers are written as in a file.
func counter(t *testing.T, table, cursor string, headers ...string) *work.Work {
	t.Helper()
	head := strings.Join(append([]string{"-- description: Count.", "-- table: " + table, "-- cursor: " + cursor}, headers...), "\n")
	return parse(t, "count", fmt.Sprintf("%s\n\n-- +bbm Work\nUPDATE %s AS \"A b\" SET n = n + 1 WHERE @batch(\"A b\")", head, table))
}

// countEach runs a counter over its table in small jobs and proves that each row was changed exactly once, and that the counts say so.
func (w *world) countEach(counter *work.Work) {
	w.t.Helper()
	const batchSize, subBatchSize = 50, 7
	rows := one[int](w, `SELECT count(*) FROM `+counter.Table)
	require.Greater(w.t, rows, batchSize, "the table holds more than one job")
	w.enqueue("count", counter.Table, batchSize, subBatchSize)
	require.NoError(w.t, w.runUntilIdle(counter))
	require.Equal(w.t, "finished", w.status("count"))
	require.Zero(w.t, one[int](w, `SELECT count(*) FROM `+counter.Table+` WHERE n <> 1`), "rows not changed exactly once")
	require.Equal(w.t, rows, one[int](w, `SELECT processed_rows FROM bbm.batched_background_migrations`))
	require.Equal(w.t, rows, one[int](w, `SELECT affected_rows FROM bbm.batched_background_migrations`))
	dbtest.CheckHistory(w.t, w.conn, "count")
}

// awkwardTexts are pairs of what quoting, arrays, patterns and collations stumble over.
func awkwardTexts() (texts []string) {
	pieces := []string{
		"", " ", "a", "A", "'", `"`, `\`, `\\`, "$1", "{}", `{"a",b}`, "NULL", "\t", "\r\n", "%_", "--", "é", "e\u0301", "ß", "日本", "👍", "\u202e", strings.Repeat("x", 300),
	}
	for _, a := range pieces {
		for _, b := range pieces {
			texts = append(texts, a+b)
		}
	}
	return texts
}

const (
	awkwardTimes = `SELECT v FROM unnest('{infinity, -infinity, 4713-01-01 00:00:00 BC, 0044-03-15 12:00:00.000001 BC, 0001-01-01, 294276-12-31 23:59:59.999999}'::text[]) AS v
		UNION SELECT ('1900-01-01'::timestamp + g * interval '1234567.891 s')::text FROM generate_series(1, 300) AS g`
	awkwardDates = `SELECT v FROM unnest('{infinity, -infinity, 4714-11-24 BC, 0044-03-15 BC, 0001-01-01, 5874897-12-31}'::text[]) AS v
		UNION SELECT ('1900-01-01'::date + g * 7)::text FROM generate_series(1, 300) AS g`
)

func TestKeysOfEveryType(t *testing.T) {
	for column, values := range map[string]string{
		"smallint": `SELECT g::text FROM generate_series(-32768, 32767, 255) AS g`,
		"int":      `SELECT g::text FROM generate_series(-2147483648, 2147483647, 8589934) AS g`,
		"bigint": `SELECT v FROM unnest('{-9223372036854775808, -9223372036854775807, -1, 0, 1, 9223372036854775806, 9223372036854775807}'::text[]) AS v
			UNION SELECT (g * g * g * 99999999)::text FROM generate_series(-150::bigint, 150) AS g`,
		"numeric": `SELECT v FROM unnest('{NaN, Infinity, -Infinity, 0.00, 1e-300, 1e300, -0.5, 1.0, 123456789012345678901234567890.123456789}'::text[]) AS v
			UNION SELECT (g / 7.0)::text FROM generate_series(-150, 150) AS g WHERE g % 7 <> 0`,
		"numeric(12, 3)": `SELECT (g / 8.0)::text FROM generate_series(-150, 150) AS g`,
		"uuid": `SELECT v FROM unnest('{00000000-0000-0000-0000-000000000000, FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF}'::text[]) AS v
			UNION SELECT gen_random_uuid()::text FROM generate_series(1, 300)`,
		"text":               `SELECT DISTINCT v FROM unnest($1::text[]) AS v`,
		"text COLLATE \"C\"": `SELECT DISTINCT v FROM unnest($1::text[]) AS v`,
		"varchar(700)":       `SELECT DISTINCT v FROM unnest($1::text[]) AS v`,
		"date":               awkwardDates,
		"timestamp":          awkwardTimes,
		"timestamptz":        awkwardTimes,
		"timestamptz(0)":     `SELECT (now() + g * interval '0.4 s')::timestamptz(0)::text FROM generate_series(1, 900) AS g GROUP BY 1`,
	} {
		t.Run(column, func(t *testing.T) {
			w := setup(t, 0)
			name, _, _ := strings.Cut(column, " COLLATE")
			w.exec(`CREATE TABLE public.keys (id ` + column + ` PRIMARY KEY, n int NOT NULL DEFAULT 0)`)
			var texts []any
			if strings.Contains(values, "$1") {
				texts = append(texts, awkwardTexts())
			}
			w.exec(fmt.Sprintf(`INSERT INTO public.keys (id) SELECT v::%s FROM (%s) AS x (v)`, name, values), texts...)
			w.countEach(counter(t, "public.keys", "id"))
		})
	}
}

// The bounds of a migration are written in UTC, those of its jobs in the time zone of the work: two texts of one time.
func TestTimesInTheTimeZoneOfTheWork(t *testing.T) {
	for name, tc := range map[string]struct{ cursor, key string }{
		"of one":     {"at", "PRIMARY KEY (at)"},
		"as a first": {"at, id", "PRIMARY KEY (at, id)"},
		"as a last":  {"id, at", "PRIMARY KEY (id, at)"},
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t, 0)
			w.exec(`CREATE TABLE public.keys (at timestamptz, id int NOT NULL DEFAULT 0, n int NOT NULL DEFAULT 0, ` + tc.key + `)`)
			w.exec(`INSERT INTO public.keys (at) ` + `SELECT v::timestamptz FROM (` + awkwardTimes + `) AS x`)
			w.exec(`INSERT INTO public.keys (at) SELECT '2025-11-02 04:00:00Z'::timestamptz + g * interval '1 minute' FROM generate_series(1, 240) AS g`)
			w.countEach(counter(t, "public.keys", tc.cursor, "-- timezone: America/New_York"))
		})
	}
}

// A locale's order differs from that of the bytes, and may take different texts for equal.
func TestTextsInTheOrderOfALocale(t *testing.T) {
	for name, tc := range map[string]struct{ collation, index, header string }{
		"one of its own":          {`(provider = icu, locale = 'und')`, "UNIQUE INDEX", "-- repeated_keys: no"},
		"upper case first":        {`(provider = icu, locale = 'und-u-kf-upper')`, "UNIQUE INDEX", "-- repeated_keys: no"},
		"without regard for case": {`(provider = icu, locale = 'und-u-ks-level1', deterministic = false)`, "INDEX", "-- repeated_keys: yes"},
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t, 0)
			if one[int](w, `SELECT count(*) FROM pg_collation WHERE collname = 'und-x-icu'`) == 0 {
				t.Skip("this server was built without ICU")
			}
			w.exec(`CREATE COLLATION public.locale ` + tc.collation)
			w.exec(`CREATE TABLE public.keys (id text COLLATE public.locale NOT NULL, n int NOT NULL DEFAULT 0)`)
			w.exec(`CREATE ` + tc.index + ` ON public.keys (id)`)
			w.exec(`INSERT INTO public.keys (id) SELECT DISTINCT v COLLATE "C" FROM unnest($1::text[]) AS v`, awkwardTexts())
			w.countEach(counter(t, "public.keys", "id", tc.header))
		})
	}
}

func TestCompositeKeys(t *testing.T) {
	const odd = `CREATE SCHEMA "Odd ""Schema"".x"; CREATE TABLE "Odd ""Schema"".x"."T; --" ("Key 1""" int, "select" text, n int NOT NULL DEFAULT 0, PRIMARY KEY ("Key 1""", "select"));
		INSERT INTO "Odd ""Schema"".x"."T; --" SELECT g % 3, 'it''s ' || g FROM generate_series(1, 400) AS g`
	for name, tc := range map[string]struct{ table, cursor, create string }{
		"of two": {"public.keys", "tenant, id", `CREATE TABLE public.keys (tenant smallint, id bigint, n int NOT NULL DEFAULT 0, PRIMARY KEY (tenant, id));
			INSERT INTO public.keys SELECT -1, g FROM generate_series(-150, 150) AS g;
			INSERT INTO public.keys SELECT g, g FROM generate_series(1, 50) AS g`},
		"of three": {"public.keys", "a, b, c", `CREATE TABLE public.keys (a text, b timestamptz, c numeric, n int NOT NULL DEFAULT 0, PRIMARY KEY (a, b, c));
			INSERT INTO public.keys SELECT (ARRAY['', 'x''\"', '日本'])[1 + g % 3], (ARRAY['-infinity', '0044-03-15 BC', '2031-01-01'])[1 + g % 5 % 3]::timestamptz, g / 4.0
			FROM generate_series(1, 600) AS g`},
		"with an index that runs backwards": {"public.keys", "a, b", `CREATE TABLE public.keys (a uuid NOT NULL, b date NOT NULL, n int NOT NULL DEFAULT 0);
			CREATE UNIQUE INDEX ON public.keys (a DESC, b DESC);
			INSERT INTO public.keys SELECT md5((g % 4)::text)::uuid, '2031-01-01'::date + g FROM generate_series(1, 400) AS g`},
		"of one, backwards": {"public.keys", "a", `CREATE TABLE public.keys (a bigint NOT NULL, n int NOT NULL DEFAULT 0);
			CREATE UNIQUE INDEX ON public.keys (a DESC); INSERT INTO public.keys SELECT g * 7 FROM generate_series(-200, 200) AS g`},
		"with names that need quotes": {`"Odd ""Schema"".x"."T; --"`, `"Key 1""", "select"`, odd},
		"with columns beside the key in the index": {"public.keys", "id", `CREATE TABLE public.keys (id int NOT NULL, more int, n int NOT NULL DEFAULT 0);
			CREATE UNIQUE INDEX ON public.keys (id) INCLUDE (more); INSERT INTO public.keys SELECT g FROM generate_series(1, 300) AS g`},
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t, 0)
			w.exec(tc.create)
			w.countEach(counter(t, tc.table, tc.cursor))
		})
	}
}

func TestPartitionedTables(t *testing.T) {
	const twoLevels = `CREATE TABLE public.keys (region text, id bigint, n int NOT NULL DEFAULT 0, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
		CREATE TABLE public.north PARTITION OF public.keys FOR VALUES IN ('north') PARTITION BY RANGE (id);
		CREATE TABLE public.north_1 PARTITION OF public.north FOR VALUES FROM (MINVALUE) TO (100);
		CREATE TABLE public.north_2 PARTITION OF public.north DEFAULT;
		CREATE TABLE public.others PARTITION OF public.keys DEFAULT PARTITION BY HASH (id);
		CREATE TABLE public.others_1 PARTITION OF public.others FOR VALUES WITH (MODULUS 2, REMAINDER 0);
		CREATE TABLE public.others_2 PARTITION OF public.others FOR VALUES WITH (MODULUS 2, REMAINDER 1);
		INSERT INTO public.keys SELECT (ARRAY['east', 'north', 'west'])[1 + g % 3], g FROM generate_series(1, 600) AS g`
	for name, tc := range map[string]struct{ table, cursor, create string }{
		"by hash": {"public.keys", "id", `CREATE TABLE public.keys (id uuid PRIMARY KEY, n int NOT NULL DEFAULT 0) PARTITION BY HASH (id);
			CREATE TABLE public.keys_0 PARTITION OF public.keys FOR VALUES WITH (MODULUS 3, REMAINDER 0);
			CREATE TABLE public.keys_1 PARTITION OF public.keys FOR VALUES WITH (MODULUS 3, REMAINDER 1);
			CREATE TABLE public.keys_2 PARTITION OF public.keys FOR VALUES WITH (MODULUS 3, REMAINDER 2);
			INSERT INTO public.keys SELECT gen_random_uuid() FROM generate_series(1, 400)`},
		"by range": {"public.keys", "day, id", `CREATE TABLE public.keys (day date, id int, n int NOT NULL DEFAULT 0, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
			CREATE TABLE public.keys_old PARTITION OF public.keys FOR VALUES FROM (MINVALUE) TO ('2031-01-10');
			CREATE TABLE public.keys_none PARTITION OF public.keys FOR VALUES FROM ('2031-01-10') TO ('2031-01-11');
			CREATE TABLE public.keys_new PARTITION OF public.keys FOR VALUES FROM ('2031-01-11') TO (MAXVALUE);
			INSERT INTO public.keys SELECT '2031-01-01'::date + g % 9, g FROM generate_series(1, 200) AS g;
			INSERT INTO public.keys SELECT '2031-01-11'::date + g % 9, g FROM generate_series(1, 200) AS g`},
		"in two levels":           {"public.keys", "region, id", twoLevels},
		"a partition, itself":     {"public.north_2", "region, id", twoLevels},
		"a partitioned partition": {"public.north", "region, id", twoLevels},
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t, 0)
			w.exec(tc.create)
			w.countEach(counter(t, tc.table, tc.cursor))
			require.Zero(t, one[int](w, `SELECT coalesce(sum(n), 0) - (SELECT sum(n) FROM `+tc.table+`) FROM public.keys`), "rows outside of the target are left alone")
		})
	}
}

func TestRowsOfRepeatedKeysStayTogether(t *testing.T) {
	for name, tc := range map[string]struct{ cursor, rows string }{
		"many of few keys":            {"a", `SELECT g % 5, 0 FROM generate_series(1, 1000) AS g`},
		"one key in all rows but one": {"a", `SELECT (g = 1)::int, 0 FROM generate_series(1, 500) AS g`},
		"all rows of one key":         {"a", `SELECT 1, 0 FROM generate_series(1, 500) AS g`},
		"few of many keys":            {"a", `SELECT g / 3, 0 FROM generate_series(-300, 300) AS g`},
		"composite":                   {"a, b", `SELECT g % 2, g % 40 / 2 FROM generate_series(1, 1000) AS g`},
		"composite, of one key":       {"a, b", `SELECT 1, 1 FROM generate_series(1, 500) AS g`},
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t, 0)
			w.exec(`CREATE TABLE public.keys (a int NOT NULL, b int NOT NULL, n int NOT NULL DEFAULT 0, changed_by xid8)`)
			w.exec(`CREATE INDEX ON public.keys (` + tc.cursor + `)`)
			w.exec(`INSERT INTO public.keys (a, b) ` + tc.rows)
			w.exec(`CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.changed_by := pg_current_xact_id(); RETURN NEW; END $$`)
			w.exec(`CREATE TRIGGER note BEFORE UPDATE ON public.keys FOR EACH ROW EXECUTE FUNCTION public.note()`)
			w.countEach(counter(t, "public.keys", tc.cursor, "-- repeated_keys: yes"))
			require.Equal(t, 1, one[int](w, `SELECT max(c) FROM (SELECT count(DISTINCT changed_by) AS c FROM public.keys GROUP BY `+tc.cursor+`) AS k`),
				"the sub-batches in which the rows of one key were changed")
		})
	}
}
