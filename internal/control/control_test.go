package control

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/session"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

const usersFile = `-- description: for a test
-- table: public.users
-- cursor: id

-- +bbm Work
UPDATE public.users AS u SET n = n + 1 WHERE @batch(u)`

// fixture is a database with public.users, and a Control whose works are on it.
type fixture struct {
	*Control
	t   *testing.T
	url string
}

// setup makes the table with that many rows.
func setup(t *testing.T, rows int) *fixture {
	t.Helper()
	f := &fixture{t: t, url: dbtest.New(t)}
	f.Control = f.another()
	f.exec(`CREATE TABLE public.users (id bigint PRIMARY KEY, email text, n int NOT NULL DEFAULT 0)`)
	f.exec(`INSERT INTO public.users SELECT i, 'u' || i FROM generate_series(1, $1::int) i`, rows)
	f.exec(`ANALYZE public.users`)
	return f
}

// another is a Control with a connection of its own.
func (f *fixture) another() *Control {
	f.t.Helper()
	config, err := pgx.ParseConfig(f.url)
	require.NoError(f.t, err)
	conn, err := session.Connect(f.t.Context(), config, session.Config{})
	require.NoError(f.t, err)
	f.t.Cleanup(func() { _ = conn.Close(f.t.Context()) })
	return &Control{Conn: conn, Works: registry(f.t, map[string]string{
		"plain": usersFile,
		"other": usersFile,
		"tuned": "-- batch_size: 100\n-- sub_batch_size: 10\n" + usersFile,
		"taking": `-- description: for a test
-- table: public.users
-- cursor: id
-- argument: step int

-- +bbm Work
UPDATE public.users AS u SET n = n + @step WHERE @batch(u)`,
	}), ChangedBy: "alice@host"}
}

func registry(t *testing.T, files map[string]string) *work.Registry {
	t.Helper()
	var works []*work.Work
	for name, file := range files {
		w, err := work.Parse(name, []byte(file))
		require.NoError(t, err)
		works = append(works, w)
	}
	r, err := work.NewRegistry(works...)
	require.NoError(t, err)
	return r
}

func (f *fixture) exec(sql string, values ...any) {
	f.t.Helper()
	_, err := f.Conn.Exec(f.t.Context(), sql, values...)
	require.NoError(f.t, err, sql)
}

func (f *fixture) enqueue(o EnqueueOptions) EnqueueResult {
	f.t.Helper()
	result, err := f.Enqueue(f.t.Context(), o)
	require.NoError(f.t, err)
	return result
}

func (f *fixture) migration(name string) dbgen.Migration {
	f.t.Helper()
	m, err := f.get(f.t.Context(), name)
	require.NoError(f.t, err)
	return m
}

// force puts a migration into a status, whatever it takes. Only tests may: nothing is logged.
func (f *fixture) force(name string, status dbgen.MigrationStatus) {
	f.t.Helper()
	f.exec(`UPDATE bbm.batched_background_migrations SET status = $2::text::bbm.migration_status,
		failure_error_code = CASE WHEN $2 = 'failed' THEN 'max_attempts'::bbm.migration_failure_code END,
		failure_message = CASE WHEN $2 = 'failed' THEN 'job 1 failed' END,
		finished_at = CASE WHEN $2 = 'finished' THEN now() END WHERE name = $1`, name, string(status))
}

// job adds a job in a status to a migration and returns its id.
func (f *fixture) job(name, status string) (id int64) {
	f.t.Helper()
	require.NoError(f.t, f.Conn.QueryRow(f.t.Context(), `
		INSERT INTO bbm.batched_background_migration_jobs
			(batched_background_migration_id, until_key, status, attempts, stalls, slot, next_attempt_at, finished_at, started_at)
		SELECT id, '{10}', $2::text::bbm.job_status, 3, 2, 1,
			CASE WHEN $2 IN ('pending', 'failed') THEN now() + interval '1 hour' END, CASE WHEN $2 = 'succeeded' THEN now() END, now()
		FROM bbm.batched_background_migrations WHERE name = $1
		RETURNING id`, name, status).Scan(&id))
	return id
}

// dump is everything that our tables hold, to prove that nothing has changed.
func (f *fixture) dump() (text string) {
	f.t.Helper()
	require.NoError(f.t, f.Conn.QueryRow(f.t.Context(), `
		SELECT concat(
			(SELECT jsonb_agg(m ORDER BY m.id) FROM bbm.batched_background_migrations m),
			(SELECT jsonb_agg(j ORDER BY j.id) FROM bbm.batched_background_migration_jobs j),
			(SELECT jsonb_agg(l ORDER BY l.id) FROM bbm.batched_background_migration_transition_logs l),
			(SELECT jsonb_agg(l ORDER BY l.id) FROM bbm.batched_background_migration_job_transition_logs l),
			(SELECT jsonb_agg(s) FROM bbm.fleet_settings s), (SELECT jsonb_agg(s ORDER BY s.id) FROM bbm.setting_changes s))`).Scan(&text))
	return text
}

func requireInput(t *testing.T, err error, want string) {
	t.Helper()
	var input *InputError
	require.ErrorAs(t, err, &input)
	require.Contains(t, input.Msg, want)
}

func TestAnUnknownNameIsNotFoundByEveryCommand(t *testing.T) {
	t.Parallel()
	f := setup(t, 1)
	ctx := t.Context()
	for command, err := range map[string]error{
		"pause":  f.Pause(ctx, "no", ""),
		"resume": f.Resume(ctx, "no", "", false),
		"adopt":  f.Resume(ctx, "no", "", true),
		"cancel": f.Cancel(ctx, "no", ""),
		"retry":  f.Retry(ctx, "no", "", false),
		"set":    f.Set(ctx, "no", "", SetOptions{SubBatchAuto: true}),
		"delete": f.Delete(ctx, "no"),
		"jobs":   f.Jobs(ctx, "no", "", nil),
		"logs":   f.Logs(ctx, "no", nil),
		"status": errOf(f.Status(ctx, "no")),
		"wait":   errOf(f.Wait(ctx, []string{"no"}, 0, nil)),
	} {
		assert.ErrorIs(t, err, ErrNotFound, command)
		assert.EqualError(t, err, `there is no migration "no"; see: bbm-runner status`, command)
	}
}

func errOf[T any](_ T, err error) error { return err }

func TestCheckSchemaNamesTheCommandThatMendsIt(t *testing.T) {
	t.Parallel()
	f := &fixture{t: t, url: dbtest.NewEmpty(t)}
	f.Control = f.another()
	requireInput(t, f.CheckSchema(t.Context()), "lacks the tables of bbm-runner; run: bbm-runner schema up")
	names, err := f.Unfinished(t.Context())
	require.NoError(t, err)
	assert.Empty(t, names)

	f = setup(t, 0)
	require.NoError(t, f.CheckSchema(t.Context()))
	f.exec(`INSERT INTO bbm.goose_db_version (version_id, is_applied) VALUES (999, true)`)
	requireInput(t, f.CheckSchema(t.Context()), "newer than the")
	f.exec(`DELETE FROM bbm.goose_db_version WHERE version_id > 2`)
	requireInput(t, f.CheckSchema(t.Context()), "are at version 2, and this program needs")
}

func TestNamesSelectByStatus(t *testing.T) {
	t.Parallel()
	f := setup(t, 1)
	for _, status := range []dbgen.MigrationStatus{paused, active, running, finished, failed, cancelled} {
		f.enqueue(EnqueueOptions{Work: "plain", Name: string(status)})
		f.force(string(status), status)
	}
	names, err := f.Names(t.Context(), "failed", "paused")
	require.NoError(t, err)
	assert.Equal(t, []string{"paused", "failed"}, names)
	names, err = f.Names(t.Context())
	require.NoError(t, err)
	assert.Len(t, names, 6)
	names, err = f.Unfinished(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"paused", "active", "running", "failed"}, names)
	_, err = f.Names(t.Context(), "done")
	requireInput(t, err, `unknown status "done"`)
}

func TestTheFleetIsOneRow(t *testing.T) {
	t.Parallel()
	f := setup(t, 0)
	require.NoError(t, f.SetEnabled(t.Context(), true, ""))
	require.NoError(t, f.SetSlots(t.Context(), 3, ""))
	settings, err := f.Fleet(t.Context())
	require.NoError(t, err)
	assert.True(t, settings.ExecutionEnabled)
	assert.EqualValues(t, 3, settings.Slots)
	assert.Equal(t, "alice@host", settings.ChangedBy)
	assert.Nil(t, settings.Reason)
	require.NoError(t, f.SetEnabled(t.Context(), false, "maintenance"))
	settings, err = f.Fleet(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "maintenance", *settings.Reason)
	for _, n := range []int{0, -1, 1001} {
		requireInput(t, f.SetSlots(t.Context(), n, ""), "give 1 to 1000")
	}
}
