package preview_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/preview"
	"github.com/bbm-runner/bbm-runner/internal/session"
)

// slowFrom makes a sub-batch of at least so many rows take that long for each of them.
const slowFrom = `
	CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN IF (SELECT count(*) FROM new) >= 300 THEN PERFORM pg_catalog.pg_sleep((SELECT count(*) FROM new) * 0.0005); END IF; RETURN NULL; END';
	CREATE TRIGGER slow AFTER UPDATE ON public.items REFERENCING NEW TABLE AS new FOR EACH STATEMENT EXECUTE FUNCTION public.slow()`

func TestTheRecommendedSizeIsTriedAndItsFiguresAreThoseOfTheRun(t *testing.T) {
	w := setup(t, items)
	s := w.sample(preview.Subject{Work: onItems(t, incrementAll), SubBatchSize: 50}, preview.SampleOptions{Shares: []float64{0, 0.5, 1}, Batches: 2})
	require.NotNil(t, s.Tried)
	assert.NotEqual(t, 50, s.Tried.SubBatchSize)
	require.Len(t, s.Tried.SubBatches, 3)
	for _, one := range s.Tried.SubBatches {
		assert.EqualValues(t, s.Tried.SubBatchSize, one.ProcessedRows)
	}
}

func TestALargerSizeWhoseRowsCostMoreIsNotRecommended(t *testing.T) {
	w := setup(t, items, slowFrom)
	s := w.sample(preview.Subject{Work: onItems(t, incrementAll), SubBatchSize: 100}, preview.SampleOptions{Shares: []float64{0, 0.5, 1}, Batches: 2})
	require.NotNil(t, s.Tried)
	require.Greater(t, s.Tried.SubBatchSize, 300)
	assert.True(t, s.Tried.IsDearer)
	assert.Equal(t, 100, s.Recommendation.SubBatchSize)
	assert.Contains(t, message(t, s.Notes, "dearer"), "times as much in sub-batches of")
}

func TestASizeThatIsTooSlowWhenTriedDoesNotFailTheSample(t *testing.T) {
	w := setup(t, items, slowFrom)
	w.exec("CREATE OR REPLACE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF (SELECT count(*) FROM new) >= 300 THEN PERFORM pg_catalog.pg_sleep(60); END IF; RETURN NULL; END'")
	o := preview.SampleOptions{Shares: []float64{0}, Batches: 2, StatementTimeout: 2 * time.Second}
	conn := w.connect(session.Config{StatementTimeout: 2 * time.Second})
	s, err := preview.Sample(t.Context(), conn, preview.Subject{Work: onItems(t, incrementAll), SubBatchSize: 100}, o)
	require.NoError(t, err)
	assert.Equal(t, 100, s.Recommendation.SubBatchSize)
	assert.Contains(t, message(t, s.Notes, "dearer"), "takes longer than the statement timeout of 2s, which one of 100 does not")
}
