package schema_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// history lists the changes of the status of the migration "count", the last first.
func (w *world) history() []string {
	w.t.Helper()
	return list[string](w, `
		SELECT concat_ws(' ', l.previous_status, l.next_status, 'by', l.changed_by, '(' || l.session_role || ')', l.reason)
		FROM bbm.batched_background_migration_transition_logs AS l
		JOIN bbm.batched_background_migrations AS m ON m.id = l.batched_background_migration_id
		WHERE m.name = 'count' AND l.previous_status IS NOT NULL ORDER BY l.id DESC`)
}

func TestAMigrationIsControlledFromSQLAndItsHistoryTellsByWhom(t *testing.T) {
	w := setup(t)
	w.exec(`CREATE TABLE public.items (id bigint PRIMARY KEY)`)
	w.exec(`INSERT INTO public.items VALUES (1)`)
	w.exec(`SELECT bbm.enqueue('count', 'public.items')`)
	user := one[string](w, `SELECT session_user::text`)
	by := " by " + user + " (" + user + ")"

	w.exec(`SELECT bbm.pause('count', 'replica lag')`)
	require.Equal(t, "paused", w.status("count"))
	require.Equal(t, []string{"active paused" + by + " replica lag"}, w.history())
	w.exec(`SELECT bbm.pause('count')`) // again, which changes nothing
	require.Len(t, w.history(), 1)
	w.exec(`SELECT bbm.resume('count')`)
	require.Equal(t, "paused active"+by, w.history()[0])

	w.exec(`UPDATE bbm.batched_background_migrations SET on_hold_until = now() + interval '1 h', hold_reason = 'a full disk'`)
	w.exec(`SELECT bbm.resume('count')`)
	require.True(t, one[bool](w, `SELECT on_hold_until IS NULL AND hold_reason IS NULL FROM bbm.batched_background_migrations`))
	require.Len(t, w.history(), 2)

	w.exec(`INSERT INTO bbm.batched_background_migration_jobs (batched_background_migration_id, until_key, status, attempts, next_attempt_at)
		SELECT id, '{1}', 'failed', 5, now() + interval '1 h' FROM bbm.batched_background_migrations`)
	w.exec(`UPDATE bbm.batched_background_migrations SET status = 'failed', failure_error_code = 'max_attempts', failure_message = 'job 1 failed'`)
	require.Equal(t, "55000", w.refused(`SELECT bbm.resume('count')`).Code)
	w.exec(`SELECT bbm.retry('count', 'mended')`)
	require.Equal(t, "failed active"+by+" mended", w.history()[0])
	require.Equal(t, "pending 0", one[string](w, `SELECT concat_ws(' ', status, attempts) FROM bbm.batched_background_migration_jobs`))
	require.Equal(t, []string{"failed pending"}, list[string](w, `SELECT concat_ws(' ', previous_status, next_status) FROM `+logs))

	w.exec(`SELECT bbm.cancel('count', 'a mistake')`)
	require.Equal(t, "active cancelled"+by+" a mistake", w.history()[0])
	for _, late := range []string{"pause", "resume", "retry"} {
		require.Equal(t, "55000", w.refused(`SELECT bbm.`+late+`('count')`).Code, late)
	}
	for _, unknown := range []string{"pause", "resume", "retry", "cancel"} {
		require.Equal(t, "42704", w.refused(`SELECT bbm.`+unknown+`('no')`).Code, unknown)
	}
}
