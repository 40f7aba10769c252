package schema_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// changes lists what is kept of the settings: of which migration, what, from, to, by whom, as which
// role, why.
func (w *world) changes() []string {
	w.t.Helper()
	return list[string](w, `
		SELECT concat_ws(' | ', coalesce(m.name, 'fleet'), s.setting, s.old_value, s.new_value, s.changed_by,
			CASE WHEN s.session_role = session_user THEN 'this role' ELSE s.session_role END, s.reason)
		FROM bbm.setting_changes AS s
		LEFT JOIN bbm.batched_background_migrations AS m ON m.id = s.batched_background_migration_id
		ORDER BY s.id`)
}

func TestEveryChangeOfTheFleetIsKept(t *testing.T) {
	w := setup(t)
	me := one[string](w, `SELECT session_user`)
	w.exec(`SELECT bbm.enable()`)
	w.exec(`SELECT bbm.disable('replica lag')`)
	w.exec(`SELECT bbm.disable('still')`)
	require.Equal(t, me+": still", one[string](w, `SELECT changed_by || ': ' || reason FROM bbm.fleet_settings`))
	w.exec(`SELECT set_config('bbm.changed_by', 'alice@host', false)`)
	w.exec(`SELECT bbm.set_fleet('slots', '4', 'more')`)
	require.Equal(t, []string{
		"fleet | execution_enabled | false | true | " + me + " | this role",
		"fleet | execution_enabled | true | false | " + me + " | this role | replica lag",
		"fleet | execution_enabled | false | false | " + me + " | this role | still",
		"fleet | slots | 1 | 4 | alice@host | this role | more",
	}, w.changes())
	require.Equal(t, me+": still", one[string](w, `SELECT changed_by || ': ' || reason FROM bbm.fleet_settings`), "who disabled it, and not who set the slots")
}

func TestEveryChangeOfAMigrationsSettingsIsKept(t *testing.T) {
	w := setupItems(t)
	w.exec(`SELECT bbm.enqueue('count', 'public.items', batch_size => 1000)`)
	w.exec(`SET IntervalStyle = 'iso_8601'`)
	w.exec(`SET bbm.changed_by = 'alice@host'`)
	for _, change := range [][3]string{
		{"pause", "250ms", "00:00:00 | 00:00:00.25"},
		{"interval", "2 hours", "00:00:00 | 02:00:00"},
		{"sub_batch_size", "10", "auto | 10"},
		{"sub_batch_size", "auto", "10 | auto"},
		{"max_attempts", "9", "5 | 9"},
		{"parallelism", "4", "1 | 4"},
		{"asynchronous_commit", "off", "true | false"},
		{"on_row_error", "quarantine", "fail | quarantine"},
		{"quarantine_limit", "7", "100 | 7"},
	} {
		w.exec(`SELECT bbm.set('count', $1, $2, 'why')`, change[0], change[1])
		kept := w.changes()
		assert.Equal(t, "count | "+change[0]+" | "+change[2]+" | alice@host | this role | why", kept[len(kept)-1])
	}
	w.exec(`DELETE FROM bbm.batched_background_migrations`)
	require.Empty(t, w.changes(), "the history goes with its migration")
}

func TestASettingThatIsNotPossibleChangesNothing(t *testing.T) {
	w := setupItems(t)
	w.exec(`SELECT bbm.enqueue('count', 'public.items', batch_size => 100)`)
	w.exec(`SELECT bbm.enqueue('count', 'public.items', 'done')`)
	w.exec(`UPDATE bbm.batched_background_migrations SET status = 'cancelled' WHERE name = 'done'`)
	w.exec(`SELECT bbm.enqueue('count', 'public.items', 'pinned')`)
	w.exec(`UPDATE bbm.batched_background_migrations SET work_checksum = 'abc' WHERE name = 'pinned'`)
	for _, tc := range []struct{ call, code, message string }{
		{`SELECT bbm.set('missing', 'pause', '1s')`, "42704", `there is no migration "missing"`},
		{`SELECT bbm.set(NULL, 'pause', '1s')`, "42704", `there is no migration`},
		{`SELECT bbm.set('count', 'status', 'finished')`, "22023", `a migration has no setting "status"; give one of asynchronous_commit, `},
		{`SELECT bbm.set('count', NULL, '1')`, "22023", `has no setting`},
		{`SELECT bbm.set('count', 'pause', NULL)`, "22004", `must not be null`},
		{`SELECT bbm.set('count', 'pause', '-1s')`, "22023", `the pause of -1s is not possible; give 0 to 365 days`},
		{`SELECT bbm.set('count', 'interval', '300000 years')`, "22023", `the interval of 300000 years is not possible`},
		{`SELECT bbm.set('count', 'parallelism', 'many')`, "22P02", `integer`},
		{`SELECT bbm.set('count', 'sub_batch_size', '101')`, "22023", `above the batch size of 100`},
		{`SELECT bbm.set('pinned', 'batch_size', '10')`, "55000", `is fixed`},
		{`SELECT bbm.set('done', 'pause', '1s')`, "55000", `migration "done" is cancelled; nothing to tune`},
		{`SELECT bbm.set_fleet('id', 'false')`, "22023", `the fleet has no setting "id"`},
		{`SELECT bbm.set_fleet('slots', '0')`, "23514", `slots_check`},
		{`SELECT bbm.set_fleet('slots', NULL)`, "22004", `must not be null`},
	} {
		refusal := w.refused(tc.call)
		assert.Equal(t, tc.code, refusal.Code, "%s: %s", tc.call, refusal.Message)
		assert.Contains(t, refusal.Message, tc.message, tc.call)
	}
	require.Empty(t, w.changes())
}

func TestAChangeWakesIdleRunners(t *testing.T) {
	w := setupItems(t)
	w.exec(`SELECT bbm.enqueue('count', 'public.items')`)
	listener := w.another()
	listener.exec(`LISTEN bbm_wake`)
	for _, act := range []string{`SELECT bbm.enable()`, `SELECT bbm.disable('why')`, `SELECT bbm.set_fleet('slots', '2')`, `SELECT bbm.set('count', 'pause', '1s')`} {
		w.exec(act)
		_, err := listener.conn.WaitForNotification(t.Context())
		require.NoError(t, err, act)
	}
}
