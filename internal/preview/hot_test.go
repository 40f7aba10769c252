package preview_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAnUpdateIsJudgedByAllThatAnIndexDependsOn(t *testing.T) {
	const update = "UPDATE public.items AS i SET n = n + 1 WHERE @batch(i)"
	for name, c := range map[string]struct {
		before, statement string
		blockedBy         []string
		since             int // the server version from which it is not blocked
	}{
		"no index on it":          {"", update, nil, 0},
		"a plain index":           {"CREATE INDEX i ON public.items (n)", update, []string{"public.i"}, 0},
		"an index on another":     {"CREATE INDEX i ON public.items (m)", update, nil, 0},
		"an included column":      {"CREATE INDEX i ON public.items (m) INCLUDE (n)", update, []string{"public.i"}, 0},
		"an expression":           {"CREATE INDEX i ON public.items ((m + n))", update, []string{"public.i"}, 0},
		"an expression on others": {"CREATE INDEX i ON public.items ((m + 1))", update, nil, 0},
		"a predicate":             {"CREATE INDEX i ON public.items (m) WHERE n > 10", update, []string{"public.i"}, 0},
		"a constraint's index":    {"ALTER TABLE public.items ADD CONSTRAINT u UNIQUE (n, id)", update, []string{"public.u"}, 0},
		"a hash index":            {"CREATE INDEX i ON public.items USING hash (n)", update, []string{"public.i"}, 0},
		"a BRIN index":            {"CREATE INDEX i ON public.items USING brin (n)", update, []string{"public.i"}, 16},
		"a generated column": {
			"ALTER TABLE public.items ADD COLUMN g int GENERATED ALWAYS AS (n * 2) STORED; CREATE INDEX i ON public.items (g)", update, []string{"public.i"}, 0,
		},
		"a generated column of others": {
			"ALTER TABLE public.items ADD COLUMN g int GENERATED ALWAYS AS (m * 2) STORED; CREATE INDEX i ON public.items (g)", update, nil, 0,
		},
		"an upsert": {
			"CREATE INDEX i ON public.items (n)",
			"INSERT INTO public.items SELECT i.id FROM public.items AS i WHERE @batch(i) ON CONFLICT (id) DO UPDATE SET n = 2", []string{"public.i"}, 0,
		},
		"in a CTE, without its schema": {
			"CREATE INDEX i ON public.items (n)",
			"WITH b AS (SELECT i.id FROM items AS i WHERE @batch(i)) UPDATE items AS i SET (m, n) = (1, 2) FROM b WHERE b.id = i.id", []string{"public.i"}, 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t, items)
			if c.before != "" {
				w.exec(c.before)
			}
			e := w.explain(onItems(t, c.statement))
			require.Len(t, e.Writes, 1)
			hot := e.Writes[0].HOT
			require.NotNil(t, hot)
			blockedBy := c.blockedBy
			if c.since > 0 && w.version() >= c.since {
				blockedBy = nil
				assert.Contains(t, hot.Meaning, "in place")
			}
			assert.Equal(t, blockedBy == nil, hot.IsPossible)
			assert.ElementsMatch(t, blockedBy, hot.BlockedBy)
			if blockedBy == nil {
				assert.Contains(t, codes(e.Warnings), "no_room")
			} else {
				assert.Contains(t, codes(e.Warnings), "indexed_column")
				assert.NotContains(t, codes(e.Warnings), "no_room")
			}
		})
	}
}

func TestRoomInPagesIsReadFromTheFillfactor(t *testing.T) {
	w := setup(t, items, "ALTER TABLE public.items SET (fillfactor = 80)")
	e := w.explain(onItems(t, "UPDATE public.items AS i SET n = n + 1 WHERE @batch(i)"))
	assert.Equal(t, 80, e.Writes[0].Fillfactor)
	assert.Contains(t, e.Writes[0].HOT.Meaning, "keeps 20 %")
	assert.Empty(t, codes(e.Warnings))
}

func TestWhatUpdatesNothingHasNoHOT(t *testing.T) {
	w := setup(t, items, "CREATE TABLE public.copies (id bigint PRIMARY KEY)")
	e := w.explain(onItems(t, "DELETE FROM public.items AS i WHERE @batch(i)"))
	assert.Nil(t, e.Writes[0].HOT)
	e = w.explain(onItems(t, "INSERT INTO public.copies SELECT i.id FROM public.items AS i WHERE @batch(i)"))
	require.Len(t, e.Writes, 1)
	assert.Equal(t, "public.copies insert", e.Writes[0].Table+" "+e.Writes[0].Operation)
	assert.Nil(t, e.Writes[0].HOT)
}

func TestPartitionsCountWithTheirOwnIndexesAndRoom(t *testing.T) {
	w := setup(t, `
		CREATE TABLE public.parts (tenant int, id bigint, n int NOT NULL DEFAULT 0, PRIMARY KEY (tenant, id)) PARTITION BY RANGE (tenant);
		CREATE TABLE public.parts_1 PARTITION OF public.parts FOR VALUES FROM (0) TO (500) WITH (fillfactor = 70);
		CREATE TABLE public.parts_2 PARTITION OF public.parts FOR VALUES FROM (500) TO (1000) WITH (fillfactor = 90);
		INSERT INTO public.parts SELECT i / 20, i FROM generate_series(0, 19999) AS i;
		ANALYZE public.parts`)
	update := parse(t, "public.parts", "tenant, id", "UPDATE public.parts AS p SET n = n + 1 WHERE @batch(p)")
	e := w.explain(update)
	require.Len(t, e.Writes, 1)
	assert.Equal(t, "public.parts", e.Writes[0].Table)
	assert.True(t, e.Writes[0].HOT.IsPossible)
	assert.Equal(t, 90, e.Writes[0].Fillfactor, "the fullest counts")
	assert.Len(t, e.Writes[0].Indexes, 1, "those of partitions go by their parent's")
	assert.InDelta(t, 20_000, e.Rows, 100)
	assert.NotEmpty(t, e.CursorIndex)

	w.exec("CREATE INDEX only_here ON public.parts_2 (n)")
	e = w.explain(update)
	assert.Equal(t, []string{"public.only_here"}, e.Writes[0].HOT.BlockedBy)
}
