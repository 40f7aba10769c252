package preview_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/bbm-runner/bbm-runner/internal/preview"
)

func TestDeadRowsAreCountedInTheTablesThatHaveThem(t *testing.T) {
	w := setup(t, items, `
		CREATE TABLE public.archive (LIKE public.items) PARTITION BY RANGE (id);
		CREATE TABLE public.archive_1 PARTITION OF public.archive FOR VALUES FROM (0) TO (50);
		CREATE TABLE public.archive_2 PARTITION OF public.archive FOR VALUES FROM (50) TO (100000);
		CREATE TABLE public.log (id bigint);
		CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.log VALUES (new.id), (new.id); RETURN new; END';
		CREATE TRIGGER t AFTER UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.note();
		CREATE TABLE public.lines (id bigint PRIMARY KEY, item bigint REFERENCES public.items ON DELETE SET NULL);
		CREATE INDEX ON public.lines (item);
		INSERT INTO public.lines SELECT i, i FROM generate_series(1, 5000, 2) AS i`)
	for statement, want := range map[string][]preview.DeadRows{ // of 100 rows
		"WITH gone AS (DELETE FROM public.items AS i WHERE @batch(i) RETURNING i.*) INSERT INTO public.archive SELECT * FROM gone": {
			{Table: "public.archive", Rows: 100}, {Table: "public.lines", Rows: 50},
		},
		"INSERT INTO public.archive SELECT i.* FROM public.items AS i WHERE @batch(i) AND i.id % 2 = 0": {{Table: "public.archive", Rows: 50}},
		incrementAll: {{Table: "public.items", Rows: 100}, {Table: "public.log", Rows: 200}},
		"DELETE FROM public.lines AS l USING public.items AS i WHERE @batch(i) AND l.id = i.id": {},
	} {
		s := w.sample(preview.Subject{Work: onItems(t, statement), BatchSize: 100, SubBatchSize: 50}, everywhere)
		for i := range want {
			want[i].Rows = want[i].Rows * walked(s) / 100
		}
		assert.Equal(t, want, s.DeadRows, statement)
	}
}
