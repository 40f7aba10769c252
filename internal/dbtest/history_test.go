package dbtest_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

// recorder is a test that keeps what is held against it.
type recorder struct {
	testing.TB
	mu         sync.Mutex
	complaints []string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.complaints = append(r.complaints, fmt.Sprintf(format, args...))
}

func (r *recorder) FailNow() { runtime.Goexit() }

// check runs the checker and returns its complaints.
func check(t *testing.T, url, name string) string {
	t.Helper()
	r := &recorder{TB: t}
	conn := dbtest.Connect(t, url)
	done := make(chan struct{})
	// FailNow ends the goroutine that it is called in.
	go func() {
		defer close(done)
		dbtest.CheckHistory(r, conn, name)
	}()
	<-done
	return strings.Join(r.complaints, "\n")
}

// sound is the whole history of a finished migration over 30 rows in three jobs, one of which failed once and one of which lost its runner; and of
// another on its way, with a job that waits. Times are seconds of one minute.
const sound = `
INSERT INTO bbm.batched_background_migrations (name, work_name, work_checksum, table_name, table_oid, root_table_oid, cursor_columns, max_key,
	frontier_key, batch_size, status, succeeded_jobs, processed_rows, affected_rows, finished_at)
VALUES
	('whole', 'count', 'c', 'public.items', 1, 1, '{id}', '{30}', '{30}', 10, 'finished', 3, 30, 29, '2031-01-01 00:00:40Z'),
	('half', 'count', 'c', 'public.others', 2, 2, '{id}', '{30}', '{10}', 10, 'running', 0, 0, 0, NULL),
	('empty', 'count', 'c', 'public.empty', 3, 3, '{id}', NULL, NULL, 10, 'finished', 0, 0, 0, '2031-01-01 00:00:40Z');
INSERT INTO bbm.batched_background_migration_transition_logs (batched_background_migration_id, created_at, previous_status, next_status, changed_by)
SELECT m.id, '2031-01-01Z', l.previous::bbm.migration_status, l.next::bbm.migration_status, 'test'
FROM (SELECT row_number() OVER (), v.* FROM (VALUES
	('whole', NULL, 'paused'), ('whole', 'paused', 'active'), ('whole', 'active', 'running'), ('whole', 'running', 'failed'), ('whole', 'failed', 'active'),
	('whole', 'active', 'running'), ('whole', 'running', 'running'), ('whole', 'running', 'finished'),
	('half', NULL, 'active'), ('half', 'active', 'running'), ('empty', NULL, 'finished')
) AS v) AS l (n, name, previous, next)
JOIN bbm.batched_background_migrations AS m ON m.name = l.name ORDER BY l.n;
INSERT INTO bbm.batched_background_migration_jobs (batched_background_migration_id, after_key, until_key, progress_key, status, attempts, claims, slot,
	processed_rows, affected_rows, next_attempt_at, finished_at)
SELECT m.id, j.after_key::text[], j.until_key::text[], j.progress_key::text[], j.status::bbm.job_status, j.attempts, j.claims, 1, j.processed, j.affected,
	CASE WHEN j.status IN ('pending', 'failed') THEN '2031-01-01Z'::timestamptz END, CASE WHEN j.status = 'succeeded' THEN '2031-01-01 00:00:40Z'::timestamptz END
FROM (SELECT row_number() OVER (), v.* FROM (VALUES
	('whole', NULL, '{10}', '{10}', 'succeeded', 0, 1, 10, 10),
	('whole', '{10}', '{20}', '{20}', 'succeeded', 1, 2, 10, 10),
	('whole', '{20}', '{30}', '{30}', 'succeeded', 0, 3, 10, 9),
	('half', NULL, '{10}', '{5}', 'pending', 0, 1, 5, 5)
) AS v) AS j (n, name, after_key, until_key, progress_key, status, attempts, claims, processed, affected)
JOIN bbm.batched_background_migrations AS m ON m.name = j.name ORDER BY j.n;
INSERT INTO bbm.batched_background_migration_job_transition_logs (batched_background_migration_job_id, created_at, previous_status, next_status, attempt, exception_class)
SELECT j.id, '2031-01-01Z'::timestamptz + make_interval(secs => l.at), l.previous::bbm.job_status, l.next::bbm.job_status, l.attempt, l.class
FROM (SELECT row_number() OVER (), v.* FROM (VALUES
	('whole', '{10}', 0, NULL, 'pending', 1, NULL), ('whole', '{10}', 0, 'pending', 'running', 1, NULL), ('whole', '{10}', 4, 'running', 'succeeded', 1, NULL),
	('whole', '{20}', 4, NULL, 'pending', 1, NULL), ('whole', '{20}', 4, 'pending', 'running', 1, NULL), ('whole', '{20}', 8, 'running', 'failed', 1, 'check_violation'),
	('whole', '{20}', 8, 'failed', 'running', 2, NULL), ('whole', '{20}', 12, 'running', 'succeeded', 2, NULL),
	('whole', '{30}', 12, NULL, 'pending', 1, NULL), ('whole', '{30}', 12, 'pending', 'running', 1, NULL), ('whole', '{30}', 16, 'running', 'pending', 1, 'RunnerLost'),
	('whole', '{30}', 16, 'pending', 'running', 1, NULL), ('whole', '{30}', 20, 'running', 'failed', 1, 'check_violation'), ('whole', '{30}', 20, 'failed', 'pending', 1, NULL),
	('whole', '{30}', 21, 'pending', 'running', 1, NULL), ('whole', '{30}', 24, 'running', 'succeeded', 1, NULL),
	('half', '{10}', 24, NULL, 'pending', 1, NULL), ('half', '{10}', 24, 'pending', 'running', 1, NULL), ('half', '{10}', 28, 'running', 'pending', 1, 'Interrupted')
) AS v) AS l (n, name, until_key, at, previous, next, attempt, class)
JOIN bbm.batched_background_migrations AS m ON m.name = l.name
JOIN bbm.batched_background_migration_jobs AS j ON j.batched_background_migration_id = m.id AND j.until_key = l.until_key::text[] ORDER BY l.n`

func forge(t *testing.T, change string) (url string) {
	t.Helper()
	url = dbtest.New(t)
	conn := dbtest.Connect(t, url)
	for _, sql := range []string{sound, change} {
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err, sql)
	}
	return url
}

func TestTheCheckerHasNothingAgainstASoundHistory(t *testing.T) {
	t.Parallel()
	url := forge(t, "")
	for _, name := range []string{"whole", "half", "empty"} {
		assert.Empty(t, check(t, url, name), name)
	}
}

// The short names of the tables, and of the three jobs of the migration "whole".
var expand = strings.NewReplacer(
	"{migrations}", "bbm.batched_background_migrations", "{jobs}", "bbm.batched_background_migration_jobs",
	"{logs}", "bbm.batched_background_migration_job_transition_logs", "{migration logs}", "bbm.batched_background_migration_transition_logs",
	"{first}", "(SELECT id FROM bbm.batched_background_migration_jobs WHERE until_key = '{10}' ORDER BY id LIMIT 1)",
	"{second}", "(SELECT id FROM bbm.batched_background_migration_jobs WHERE until_key = '{20}')",
	"{third}", "(SELECT id FROM bbm.batched_background_migration_jobs WHERE until_key = '{30}')",
	"{quarantine}", "bbm.batched_background_migration_quarantined_rows",
	"{job}", "batched_background_migration_job_id",
	"{whole}", "(SELECT id FROM bbm.batched_background_migrations WHERE name = 'whole')",
)

// withoutRetry leaves the migration "whole" without the retry that lets attempts be counted anew.
const withoutRetry = `UPDATE {migration logs} SET next_status = 'paused' WHERE next_status = 'failed'; UPDATE {migration logs} SET previous_status = 'paused' WHERE previous_status = 'failed'`

// quarantine leaves a row of the migration "whole" out.
const quarantine = `INSERT INTO {quarantine} (batched_background_migration_id, batched_background_migration_job_id, row_key, exception_class, exception_message)
	VALUES ({whole}, {first}, '{7}', 'check_violation', 'm')`

func TestTheCheckerComplainsOfABrokenHistory(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ change, complaint string }{
		"a gap between jobs":                     {`UPDATE {jobs} SET after_key = '{11}' WHERE id = {second}`, "begins where the one before ends"},
		"jobs that overlap":                      {`UPDATE {jobs} SET after_key = '{9}' WHERE id = {second}`, "begins where the one before ends"},
		"a job that is gone":                     {`DELETE FROM {jobs} WHERE id = {second}`, "begins where the one before ends"},
		"a first job with a lower bound":         {`UPDATE {jobs} SET after_key = '{0}' WHERE id = {first}`, "begins where the one before ends"},
		"a last job that is gone":                {`DELETE FROM {jobs} WHERE id = {third}`, "the last job ends at the frontier"},
		"a job without a range":                  {`UPDATE {jobs} SET after_key = until_key WHERE id = {third}; UPDATE {jobs} SET until_key = '{30}', progress_key = '{30}' WHERE id = {second}`, "has no range"},
		"a range that was not cut":               {`UPDATE {migrations} SET max_key = '{40}' WHERE name = 'whole'`, "cut to its end"},
		"a job that stopped early":               {`UPDATE {jobs} SET progress_key = '{19}' WHERE id = {second}`, "succeeded before its end"},
		"a job that is not done":                 {`UPDATE {jobs} SET status = 'failed', next_attempt_at = now(), finished_at = NULL WHERE id = {second}`, "every job of a finished migration"},
		"a job that still runs":                  {`UPDATE {jobs} SET status = 'running', finished_at = NULL WHERE id = {second}`, "still runs"},
		"no history":                             {`DELETE FROM {logs} WHERE {job} = {second}`, "has a history"},
		"no creation":                            {`DELETE FROM {logs} WHERE {job} = {first} AND previous_status IS NULL`, "transition 0"},
		"a transition that is not logged":        {`DELETE FROM {logs} WHERE {job} = {second} AND next_status = 'failed'`, "transition 2"},
		"a last one that is not logged":          {`DELETE FROM {logs} WHERE {job} = {second} AND next_status = 'succeeded'`, "is its status"},
		"a status that was changed":              {`UPDATE {jobs} SET status = 'pending', next_attempt_at = now(), finished_at = NULL WHERE id = {second}`, "is its status"},
		"a transition logged twice":              {`INSERT INTO {logs} ({job}, created_at, previous_status, next_status, attempt) SELECT {job}, created_at, previous_status, next_status, attempt FROM {logs} WHERE {job} = {first} AND next_status = 'succeeded'`, "transition 3"},
		"an order that is impossible":            {`UPDATE {logs} SET next_status = 'pending', exception_class = 'x' WHERE {job} = {second} AND next_status = 'failed'; UPDATE {logs} SET previous_status = 'pending', next_status = 'succeeded' WHERE {job} = {second} AND previous_status = 'failed'; DELETE FROM {logs} WHERE {job} = {second} AND previous_status = 'running' AND next_status = 'succeeded'; UPDATE {jobs} SET claims = 1 WHERE id = {second}`, "is no transition of a job"},
		"a job that ended twice":                 {`UPDATE {logs} SET next_status = 'succeeded' WHERE {job} = {second} AND next_status = 'failed'; UPDATE {logs} SET previous_status = 'succeeded' WHERE {job} = {second} AND previous_status = 'failed'; UPDATE {jobs} SET attempts = 0 WHERE id = {second}`, "is no transition of a job"},
		"time that goes back":                    {`UPDATE {logs} SET created_at = '2031-01-01 00:00:03Z' WHERE {job} = {second} AND next_status = 'succeeded'`, "goes back in time"},
		"a failure without a reason":             {`UPDATE {logs} SET exception_class = NULL WHERE {job} = {second}`, "tells why"},
		"a loss without a reason":                {`UPDATE {logs} SET exception_class = NULL WHERE {job} = {third} AND next_status = 'pending'`, "tells why"},
		"a claim that was not logged":            {`UPDATE {jobs} SET claims = 3 WHERE id = {second}`, "claims of job"},
		"a failure that was not counted":         {`UPDATE {jobs} SET attempts = 0 WHERE id = {second}; ` + withoutRetry, "attempts of job"},
		"a failure that was none":                {`UPDATE {jobs} SET attempts = 2 WHERE id = {second}`, "attempts of job"},
		"an attempt that is wrong":               {`UPDATE {logs} SET attempt = 1 WHERE {job} = {second} AND next_status = 'succeeded'; ` + withoutRetry, "attempt of transition"},
		"an attempt that is too high":            {`UPDATE {logs} SET attempt = 3 WHERE {job} = {second} AND next_status = 'succeeded'`, "attempt of transition"},
		"too few jobs counted":                   {`UPDATE {migrations} SET succeeded_jobs = 2 WHERE name = 'whole'`, "succeeded_jobs"},
		"too many rows processed":                {`UPDATE {migrations} SET processed_rows = 31 WHERE name = 'whole'`, "processed_rows"},
		"too many rows of a job":                 {`UPDATE {jobs} SET processed_rows = 11 WHERE id = {second}`, "processed_rows"},
		"too few rows affected":                  {`UPDATE {migrations} SET affected_rows = 30 WHERE name = 'whole'`, "affected_rows"},
		"two jobs at once in one slot":           {`UPDATE {logs} SET created_at = '2031-01-01 00:00:05Z' WHERE {job} = {first} AND next_status = 'succeeded'`, "more jobs at once than slots"},
		"three jobs at once in two slots":        {`UPDATE {jobs} SET slot = 2 WHERE id = {second}; UPDATE {logs} SET created_at = '2031-01-01 00:00:06Z' WHERE {job} = {first} AND next_status = 'succeeded'; UPDATE {logs} SET created_at = '2031-01-01 00:00:05Z' WHERE {job} = {third} AND created_at < '2031-01-01 00:00:15Z'`, "more jobs at once than slots"},
		"jobs of two migrations at once":         {`UPDATE {logs} SET created_at = '2031-01-01 00:00:23Z' WHERE created_at = '2031-01-01 00:00:24Z' AND {job} NOT IN ({first}, {second}, {third})`, "more jobs at once than slots"},
		"two jobs in one of two slots":           {`UPDATE bbm.fleet_settings SET slots = 2; UPDATE {logs} SET created_at = '2031-01-01 00:00:09Z' WHERE {job} = {first} AND next_status = 'succeeded'`, "jobs in slot 1 at once"},
		"a migration without a history":          {`DELETE FROM {migration logs} WHERE batched_background_migration_id = {whole}`, "has a history"},
		"a migration's missing log":              {`DELETE FROM {migration logs} WHERE next_status = 'failed'`, "transition 3 of the migration"},
		"a migration's last missing log":         {`DELETE FROM {migration logs} WHERE batched_background_migration_id = {whole} AND next_status = 'finished'`, "last transition is its status"},
		"a migration's status":                   {`UPDATE {migrations} SET status = 'cancelled', finished_at = NULL WHERE name = 'whole'`, "last transition is its status"},
		"a migration that went on after its end": {`UPDATE {migration logs} SET next_status = 'finished' WHERE next_status = 'failed'; UPDATE {migration logs} SET previous_status = 'finished' WHERE previous_status = 'failed'`, "went on after its end"},
		"a migration that was restarted":         {`UPDATE {migration logs} SET next_status = 'cancelled' WHERE next_status = 'failed'; UPDATE {migration logs} SET previous_status = 'cancelled' WHERE previous_status = 'failed'`, "is no transition of a migration"},
		"a row left out and not counted":         {quarantine, "quarantined_rows"},
		"a row counted and not left out":         {`UPDATE {migrations} SET quarantined_rows = 1 WHERE name = 'whole'`, "quarantined_rows"},
		"a row left out twice":                   {quarantine + `; ` + quarantine + `; UPDATE {migrations} SET quarantined_rows = 2 WHERE name = 'whole'`, "in quarantine once"},
		"a row that no job tries again":          {quarantine + `; UPDATE {quarantine} SET retry_job_id = {first}; UPDATE {migrations} SET quarantined_rows = 1 WHERE name = 'whole'`, "has a job for it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Contains(t, check(t, forge(t, expand.Replace(tc.change)), "whole"), tc.complaint)
		})
	}
}

func TestTheCheckerComplainsOfAMigrationThatIsNotThere(t *testing.T) {
	t.Parallel()
	assert.Contains(t, check(t, forge(t, ""), "missing"), `migration "missing"`)
}
