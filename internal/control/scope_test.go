package control

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

func TestASparseWorkIsEnqueuedForTheRowsOfItsScope(t *testing.T) {
	t.Parallel()
	f := setup(t, 20_000)
	f.Works = registry(t, map[string]string{"sparse": `-- description: for a test
-- table: public.users
-- cursor: id
-- scope: id % 100 = 0

-- +bbm Work
UPDATE public.users AS u SET n = n + 1 WHERE @batch(u) AND u.id % 100 = 0`})

	_, err := f.Enqueue(t.Context(), EnqueueOptions{Work: "sparse"})
	var refused *work.DefinitionError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, dbgen.BBMMigrationFailureCodeInvalidCursor, refused.Code)
	assert.Contains(t, refused.Message, "CREATE INDEX CONCURRENTLY ON public.users (id) WHERE id % 100 = 0, or leave the scope out")

	f.exec(`CREATE INDEX ON public.users (id) WHERE id % 100 = 0`)
	f.exec(`CREATE STATISTICS public.s ON (id % 100) FROM public.users`)
	f.exec(`ANALYZE public.users`)
	result := f.enqueue(EnqueueOptions{Work: "sparse", DryRun: true})
	assert.InDelta(t, 200, result.Rows, 100)
	result = f.enqueue(EnqueueOptions{Work: "sparse"})
	assert.InDelta(t, 200, result.Rows, 100)
	assert.EqualValues(t, 1, result.Jobs)
	assert.Equal(t, result.Rows, *f.migration("sparse").TotalTupleCount)
}
