package dbtest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// proved is the history of three migrations that ask for a proof: one that has gone again over a part of its range in one pass, one of an empty table,
// and one in which rows remain after the last pass.
const proved = `
INSERT INTO bbm.batched_background_migrations (name, work_name, work_checksum, table_name, table_oid, root_table_oid, cursor_columns, max_key,
	frontier_key, batch_size, status, succeeded_jobs, processed_rows, affected_rows, finished_at, remaining_predicate, verified_at, verified_rows,
	verified_statement, failure_error_code)
VALUES
	('proved', 'count', 'c', 'public.items', 4, 4, '{id}', '{40}', '{40}', 40, 'finished', 2, 40, 45, now(), 'n = 0', now(), 45, 'SELECT', NULL),
	('empty proved', 'count', 'c', 'public.empty', 5, 5, '{id}', NULL, NULL, 10, 'finished', 0, 0, 0, now(), 'n = 0', now(), 0, 'SELECT', NULL),
	('lost', 'count', 'c', 'public.lost', 6, 6, '{id}', '{40}', '{40}', 40, 'failed', 1, 40, 40, NULL, 'n = 0', NULL, NULL, NULL, 'rows_remaining');
INSERT INTO bbm.batched_background_migration_verifications (batched_background_migration_id, pass, passes_left, work_checksum, statement, until_key,
	progress_key, walked_rows, remaining_rows, remaining_keys, finished_at)
SELECT m.id, v.pass, v.passes_left, 'c', 'SELECT', '{50}', '{50}', 45, v.remaining, v.keys::jsonb, now()
FROM (VALUES
	('proved', 1, 3, 5, '[["45"]]'), ('proved', 2, 2, 0, '[]'),
	('lost', 1, 1, 5, '[["45"]]'), ('lost', 2, 0, 5, '[["45"]]')
) AS v (name, pass, passes_left, remaining, keys)
JOIN bbm.batched_background_migrations AS m ON m.name = v.name;
INSERT INTO bbm.batched_background_migration_transition_logs (batched_background_migration_id, previous_status, next_status, changed_by)
SELECT m.id, l.previous::bbm.migration_status, l.next::bbm.migration_status, 'test'
FROM (SELECT row_number() OVER (), v.* FROM (VALUES
	('proved', NULL, 'active'), ('proved', 'active', 'running'), ('proved', 'running', 'finished'), ('empty proved', NULL, 'finished'),
	('lost', NULL, 'active'), ('lost', 'active', 'running'), ('lost', 'running', 'failed')
) AS v) AS l (n, name, previous, next)
JOIN bbm.batched_background_migrations AS m ON m.name = l.name ORDER BY l.n;
INSERT INTO bbm.batched_background_migration_jobs (batched_background_migration_id, pass, after_key, until_key, progress_key, status, claims, slot,
	processed_rows, affected_rows, finished_at)
SELECT m.id, j.pass, j.after_key::text[], j.until_key::text[], j.until_key::text[], 'succeeded', 1, 1, j.rows, j.rows, now()
FROM (SELECT row_number() OVER (), v.* FROM (VALUES ('proved', 0, NULL, '{40}', 40), ('proved', 1, '{40}', '{45}', 5), ('lost', 0, NULL, '{40}', 40)) AS v) AS j (n, name, pass, after_key, until_key, rows)
JOIN bbm.batched_background_migrations AS m ON m.name = j.name ORDER BY j.n;
INSERT INTO bbm.batched_background_migration_job_transition_logs (batched_background_migration_job_id, created_at, previous_status, next_status, attempt)
SELECT j.id, '2031-01-01Z'::timestamptz + make_interval(secs => j.id::integer * 10 + l.n), l.previous::bbm.job_status, l.next::bbm.job_status, 1
FROM bbm.batched_background_migration_jobs AS j JOIN bbm.batched_background_migrations AS m ON m.id = j.batched_background_migration_id AND m.remaining_predicate IS NOT NULL
CROSS JOIN (VALUES (1, NULL, 'pending'), (2, 'pending', 'running'), (3, 'running', 'succeeded')) AS l (n, previous, next)
ORDER BY j.id, l.n;
`

func TestTheCheckerHasNothingAgainstASoundProof(t *testing.T) {
	t.Parallel()
	url := forge(t, proved)
	for _, name := range []string{"proved", "empty proved", "lost"} {
		assert.Empty(t, check(t, url, name), name)
	}
}

func TestTheCheckerComplainsOfABrokenProof(t *testing.T) {
	t.Parallel()
	const (
		walks  = `bbm.batched_background_migration_verifications`
		walk   = ` WHERE batched_background_migration_id = (SELECT id FROM {migrations} WHERE name = 'proved')`
		lost   = ` WHERE batched_background_migration_id = (SELECT id FROM {migrations} WHERE name = 'lost')`
		ofThis = ` WHERE name = 'proved'`
	)
	for name, tc := range map[string]struct{ migration, change, complaint string }{
		"no walk":                    {"proved", `DELETE FROM ` + walks + walk, "the proof was walked"},
		"a last walk that is gone":   {"proved", `DELETE FROM ` + walks + walk + ` AND pass = 2`, "the last walk is clean"},
		"a first walk that is gone":  {"proved", `DELETE FROM ` + walks + walk + ` AND pass = 1`, "walks are counted"},
		"rows that remain":           {"proved", `UPDATE ` + walks + ` SET remaining_rows = 1, remaining_keys = '[["1"]]'` + walk + ` AND pass = 2`, "the last walk is clean"},
		"rows without a key":         {"proved", `UPDATE ` + walks + ` SET remaining_keys = '[]'` + walk + ` AND pass = 1`, "names some of what remains"},
		"a walk that stopped early":  {"proved", `UPDATE ` + walks + ` SET progress_key = '{30}'` + walk + ` AND pass = 2`, "walk 2 stopped before its end"},
		"a walk that goes on":        {"proved", `UPDATE ` + walks + ` SET finished_at = NULL` + walk + ` AND pass = 2`, "the last walk is clean"},
		"a needless second walk":     {"proved", `UPDATE ` + walks + ` SET remaining_rows = 0, remaining_keys = '[]'` + walk + ` AND pass = 1`, "walk 1 is followed by another"},
		"passes that were not spent": {"proved", `UPDATE ` + walks + ` SET passes_left = 3` + walk + ` AND pass = 2`, "passes left by walk 1"},
		"another version":            {"proved", `UPDATE ` + walks + ` SET work_checksum = 'x'` + walk + ` AND pass = 2`, "judged by the pinned version"},
		"other rows":                 {"proved", `UPDATE {migrations} SET verified_rows = 44` + ofThis, "rows of the proof"},
		"a proof of later":           {"proved", `UPDATE {migrations} SET verified_at = verified_at + interval '1 s'` + ofThis, "as old as its walk"},
		"no statement":               {"proved", `UPDATE {migrations} SET verified_statement = NULL` + ofThis, "has its proof"},
		"a proof of nothing asked":   {"proved", `UPDATE {migrations} SET remaining_predicate = NULL` + ofThis, "a proof of what asks for none"},
		"rows of an empty table":     {"empty proved", `UPDATE {migrations} SET verified_rows = 1 WHERE name = 'empty proved'`, "a table that was empty"},
		"a failure before the last":  {"lost", `DELETE FROM ` + walks + lost + ` AND pass = 2`, "rows remained after the last pass"},
		"a failure without a walk":   {"lost", `DELETE FROM ` + walks + lost, "what failed it was walked"},
		"a pass behind the last":     {"lost", `UPDATE {jobs} SET pass = 2` + lost, "behind the last pass"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Contains(t, check(t, forge(t, proved+expand.Replace(tc.change)), tc.migration), tc.complaint)
		})
	}
}
