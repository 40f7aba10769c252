package schema_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestJobsOfMigrationsThatEndedBeforeTheRetentionAreForgotten(t *testing.T) {
	w := setup(t)
	w.exec(`CREATE TABLE public.items (id bigint PRIMARY KEY)`)
	w.exec(`INSERT INTO public.items VALUES (1)`)
	for _, m := range []struct{ name, status, ended string }{
		{"finished long ago", "finished", "40 days"},
		{"finished of late", "finished", "20 days"},
		{"cancelled long ago", "cancelled", "40 days"},
		{"not ended", "paused", "40 days"},
	} {
		w.exec(`SELECT bbm.enqueue('count', 'public.items', $1)`, m.name)
		w.exec(`UPDATE bbm.batched_background_migrations SET status = $2::text::bbm.migration_status, updated_at = now() - $3::text::interval,
			finished_at = CASE WHEN $2 = 'finished' THEN now() - $3::text::interval END WHERE name = $1`, m.name, m.status, m.ended)
		w.exec(`UPDATE bbm.batched_background_migration_transition_logs SET created_at = now() - $2::text::interval, next_status = $3::text::bbm.migration_status
			WHERE batched_background_migration_id = (SELECT id FROM bbm.batched_background_migrations WHERE name = $1)`, m.name, m.ended, m.status)
		w.exec(`INSERT INTO bbm.batched_background_migration_jobs (batched_background_migration_id, until_key, status, finished_at)
			SELECT m.id, ARRAY[i::text], 'succeeded', now() FROM bbm.batched_background_migrations AS m, generate_series(1, 6000) AS i WHERE m.name = $1`, m.name)
	}
	w.exec(`INSERT INTO bbm.batched_background_migration_jobs (batched_background_migration_id, until_key, status, slot)
		SELECT m.id, '{1}', 'running', 1 FROM bbm.batched_background_migrations AS m WHERE m.name = 'cancelled long ago'`)
	w.exec(`INSERT INTO ` + logs + ` (batched_background_migration_job_id, created_at, next_status, attempt)
		SELECT j.id, m.updated_at, 'pending', 1 FROM bbm.batched_background_migration_jobs AS j
		JOIN bbm.batched_background_migrations AS m ON m.id = j.batched_background_migration_id`)

	var pages []int
	for {
		pages = append(pages, one[int](w, `SELECT bbm.forget_jobs(1)`))
		if pages[len(pages)-1] == 0 {
			break
		}
	}
	assert.Equal(t, []int{5000, 5000, 2000, 0}, pages)
	left := list[string](w, `
		SELECT format('%s: %s jobs, %s transitions', m.name, count(j.id), count(l.id))
		FROM bbm.batched_background_migrations AS m
		LEFT JOIN bbm.batched_background_migration_jobs AS j ON j.batched_background_migration_id = m.id
		LEFT JOIN `+logs+` AS l ON l.batched_background_migration_job_id = j.id
		GROUP BY m.id ORDER BY m.id`)
	assert.Equal(t, []string{
		"finished long ago: 0 jobs, 0 transitions", "finished of late: 6000 jobs, 6000 transitions",
		"cancelled long ago: 1 jobs, 1 transitions", "not ended: 6000 jobs, 6000 transitions",
	}, left)
}

// Who can write status and times of a migration, as a runner can, forgets nothing by that: the
// history says whether it has ended, and what happened of late.
func TestJobsAreForgottenByWhatTheHistorySays(t *testing.T) {
	w := setup(t)
	w.exec(`CREATE TABLE public.items (id bigint PRIMARY KEY)`)
	w.exec(`INSERT INTO public.items VALUES (1)`)
	w.exec(`SELECT bbm.enqueue('count', 'public.items', 'goes on')`)
	w.exec(`UPDATE bbm.batched_background_migrations SET status = 'cancelled', updated_at = now() - interval '2 months'`)
	w.exec(`UPDATE bbm.batched_background_migration_transition_logs SET created_at = now() - interval '2 months'`)
	w.exec(`INSERT INTO bbm.batched_background_migration_jobs (batched_background_migration_id, until_key, status, finished_at)
		SELECT id, '{1}', 'succeeded', now() FROM bbm.batched_background_migrations`)
	require.Equal(t, 0, one[int](w, `SELECT bbm.forget_jobs(1)`), "by its history it goes on")

	w.exec(`INSERT INTO bbm.batched_background_migration_transition_logs (batched_background_migration_id, created_at, next_status, changed_by)
		SELECT id, now() - interval '2 months', 'cancelled', 'somebody' FROM bbm.batched_background_migrations`)
	w.exec(`INSERT INTO ` + logs + ` (batched_background_migration_job_id, next_status, attempt) SELECT id, 'succeeded', 1 FROM bbm.batched_background_migration_jobs`)
	require.Equal(t, 0, one[int](w, `SELECT bbm.forget_jobs(1)`), "a job of late")

	w.exec(`UPDATE ` + logs + ` SET created_at = now() - interval '2 months'`)
	require.Equal(t, 1, one[int](w, `SELECT bbm.forget_jobs(1)`))
}

func TestNobodyForgetsJobsOfTheLastMonth(t *testing.T) {
	w := setup(t)
	for _, months := range []any{0, -1, nil} {
		require.Equal(t, "22023", w.refused(`SELECT bbm.forget_jobs($1::int)`, months).Code)
	}
}
