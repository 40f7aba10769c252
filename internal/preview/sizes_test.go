package preview_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/preview"
)

func TestAPlanThatReadsAnotherTableWholeFromSomeSizeOnIsToldOf(t *testing.T) {
	w := setup(t, items, `
		INSERT INTO public.items (id, n) SELECT i, i::bigint * 104729 % 1200007 FROM generate_series(5001, 100000) AS i;
		CREATE TABLE public.refers (id bigint PRIMARY KEY, code bigint NOT NULL, pad text);
		INSERT INTO public.refers SELECT i, i::bigint * 7919 % 600011 * 2, repeat('x', 200) FROM generate_series(1, 300000) AS i;
		CREATE INDEX ON public.refers (code)`)
	w.exec("VACUUM ANALYZE")
	of := onItems(t, "DELETE FROM public.items AS i WHERE @batch(i) AND NOT EXISTS (SELECT FROM public.refers AS r WHERE r.code = i.n)")
	e := w.explain(of)
	assert.NotContains(t, codes(e.Warnings), "full_scan", "a sub-batch of the shown size asks the index")
	assert.Contains(t, message(t, e.Warnings, "plan_changes"), "from some size of sub-batches on all of public.refers (about 300,000 rows) is read for each: "+
		"the plan for 20,000 rows does so, that for 1 does not")
	require.Len(t, e.Sizes, 2)
	assert.Equal(t, 1, e.Sizes[0].SubBatchSize)
	assert.Empty(t, e.Sizes[0].ReadsMore)
	assert.Equal(t, 20_000, e.Sizes[1].SubBatchSize)
	assert.Equal(t, []string{"public.refers"}, e.Sizes[1].ReadsMore)
	assert.Contains(t, e.Sizes[1].PlanText, "Seq Scan on refers")

	fixed, err := preview.Explain(t.Context(), w.conn, preview.Subject{Work: of, SubBatchSize: 1000})
	require.NoError(t, err)
	assert.Empty(t, fixed.Sizes, "a run chooses no other size")
	assert.NotContains(t, codes(fixed.Warnings), "plan_changes")
	w.exec("DROP INDEX public.refers_code_idx")
	assert.NotContains(t, codes(w.explain(of).Warnings), "plan_changes", "each size reads it")
}
