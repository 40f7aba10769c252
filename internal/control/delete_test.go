package control

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

func TestDeleteForgetsTheWholeHistory(t *testing.T) {
	t.Parallel()
	f := setup(t, 1)
	empty := f.dump()
	f.enqueue(EnqueueOptions{Work: "plain"})
	f.exec(`INSERT INTO bbm.batched_background_migration_job_transition_logs (batched_background_migration_job_id, next_status, attempt)
		VALUES ($1, 'pending', 1)`, f.job("plain", "succeeded"))
	require.NoError(t, f.Cancel(t.Context(), "plain", ""))
	require.NoError(t, f.Delete(t.Context(), "plain"))
	assert.Equal(t, empty, f.dump())
}

func TestDeleteSparesAJobThatARunnerExecutesAndTakesOneWhoseRunnerIsLost(t *testing.T) {
	t.Parallel()
	f := setup(t, 1)
	f.enqueue(EnqueueOptions{Work: "plain"})
	f.job("plain", "running")
	require.NoError(t, f.Cancel(t.Context(), "plain", ""))
	runner := dbtest.Connect(t, f.url)
	_, err := runner.Exec(t.Context(), `SELECT pg_advisory_lock(1650617601, 1)`)
	require.NoError(t, err)
	before := f.dump()
	requireInput(t, f.Delete(t.Context(), "plain"), "a job of migration \"plain\" is still running")
	assert.Equal(t, before, f.dump())

	_, err = runner.Exec(t.Context(), `SELECT pg_advisory_unlock(1650617601, 1)`)
	require.NoError(t, err)
	require.NoError(t, f.Delete(t.Context(), "plain"))
	_, err = f.get(t.Context(), "plain")
	assert.ErrorIs(t, err, ErrNotFound)
}

func TestDeleteOfManyJobsIsNoLongTransaction(t *testing.T) {
	t.Parallel()
	f := setup(t, 1)
	empty := f.dump()
	f.enqueue(EnqueueOptions{Work: "plain"})
	f.exec(`INSERT INTO bbm.batched_background_migration_jobs (batched_background_migration_id, until_key, status, finished_at)
		SELECT m.id, ARRAY[i::text], 'succeeded', now() FROM bbm.batched_background_migrations AS m, generate_series(1, 2 * $1::int + 1) AS i`, deletePageSize)
	f.exec(`INSERT INTO bbm.batched_background_migration_job_transition_logs (batched_background_migration_job_id, next_status, attempt)
		SELECT id, 'pending', 1 FROM bbm.batched_background_migration_jobs`)
	require.NoError(t, f.Cancel(t.Context(), "plain", ""))
	f.exec(`CREATE TABLE public.deletions (transaction bigint, jobs bigint)`)
	f.exec(`CREATE FUNCTION public.count_deletions() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN INSERT INTO public.deletions SELECT txid_current(), count(*) FROM old_jobs; RETURN NULL; END'`)
	f.exec(`CREATE TRIGGER counted AFTER DELETE ON bbm.batched_background_migration_jobs REFERENCING OLD TABLE AS old_jobs
		FOR EACH STATEMENT EXECUTE FUNCTION public.count_deletions()`)
	require.NoError(t, f.Delete(t.Context(), "plain"))
	assert.Equal(t, empty, f.dump())

	var transactions, most int
	require.NoError(t, f.Conn.QueryRow(t.Context(), `
		SELECT count(*), max(jobs) FROM (SELECT sum(jobs) AS jobs FROM public.deletions GROUP BY transaction HAVING sum(jobs) > 0) AS t`).Scan(&transactions, &most))
	assert.Equal(t, 3, transactions)
	assert.Equal(t, deletePageSize, most)
}
