package runner_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestARunnerForgetsTheJobsOfMigrationsThatEndedBeforeTheRetention(t *testing.T) {
	w := setup(t, 100)
	for _, name := range []string{"old", "young"} {
		w.enqueue(name, "public.items", 10, 10)
		require.NoError(t, w.runUntilIdle(parse(t, name, increment)))
	}
	w.exec(`UPDATE bbm.batched_background_migrations SET finished_at = now() - interval '7 months' WHERE name = 'old'`)
	// What has ended when, the history says.
	w.exec(`UPDATE bbm.batched_background_migration_transition_logs AS l SET created_at = l.created_at - interval '7 months'
		FROM bbm.batched_background_migrations AS m WHERE m.id = l.batched_background_migration_id AND m.name = 'old'`)
	w.exec(`UPDATE bbm.batched_background_migration_job_transition_logs AS l SET created_at = l.created_at - interval '7 months'
		FROM bbm.batched_background_migration_jobs AS j, bbm.batched_background_migrations AS m
		WHERE j.id = l.batched_background_migration_job_id AND m.id = j.batched_background_migration_id AND m.name = 'old'`)
	w.exec(`UPDATE bbm.batched_background_migration_transition_logs SET created_at = now() - interval '7 months'
		WHERE batched_background_migration_id = (SELECT id FROM bbm.batched_background_migrations WHERE name = 'old')`)
	stop := w.start(w.runner(w.config()))
	const jobs = `(SELECT count(*) FROM bbm.batched_background_migration_jobs AS j
		JOIN bbm.batched_background_migrations AS m ON m.id = j.batched_background_migration_id WHERE m.name = '`
	w.eventually(jobs + `old') = 0`)
	require.NoError(t, stop())
	require.Equal(t, 10, one[int](w, `SELECT `+jobs+`young')`))
	require.Equal(t, "finished 10 100", one[string](w,
		`SELECT concat_ws(' ', status, succeeded_jobs, processed_rows) FROM bbm.batched_background_migrations WHERE name = 'old'`))
}
