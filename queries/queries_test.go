package queries_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	writesJob       = regexp.MustCompile(`(?is)\b(UPDATE|INSERT\s+INTO)\s+bbm\.batched_background_migration_jobs\b`)
	writesMigration = regexp.MustCompile(`(?is)\b(UPDATE|INSERT\s+INTO)\s+bbm\.batched_background_migrations\b`)
	logsJob         = regexp.MustCompile(`(?is)\bINSERT\s+INTO\s+bbm\.batched_background_migration_job_transition_logs\b`)
	logsMigration   = regexp.MustCompile(`(?is)\bINSERT\s+INTO\s+bbm\.batched_background_migration_transition_logs\b`)
	comment         = regexp.MustCompile(`(?m)--.*$`)
	// A status is set by SET status = …, or named in the column list of an INSERT.
	setsStatus = regexp.MustCompile(`(?is)\bSET\b[^;]*?\bstatus\s*=`)
)

// query is one named statement of queries/.
type query struct{ file, name, head, body string }

func readQueries(t *testing.T) []query {
	t.Helper()
	files, err := filepath.Glob("*.sql")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	var queries []query
	for _, file := range files {
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, part := range strings.Split(string(source), "-- name: ")[1:] {
			lines := strings.Split(part, "\n")
			head := lines[0]
			for _, line := range lines[1:] {
				if !strings.HasPrefix(line, "--") {
					break
				}
				head += "\n" + line
			}
			queries = append(queries, query{file, strings.Fields(lines[0])[0], head, comment.ReplaceAllString(part[len(lines[0]):], "")})
		}
	}
	return queries
}

// statements cuts a query into the parts that each write one table: the CTEs and the final statement.
func (q query) statements() []string {
	return regexp.MustCompile(`(?m)^\)?,?\s*\w+ AS \($|^\)$`).Split(q.body, -1)
}

func changesStatus(statement string, writes *regexp.Regexp) bool {
	if !writes.MatchString(statement) {
		return false
	}
	if strings.Contains(strings.ToUpper(statement), "INSERT") {
		return true // a row is created with a status
	}
	where := strings.Index(strings.ToUpper(statement), "\n    WHERE")
	if where >= 0 {
		statement = statement[:where]
	}
	return setsStatus.MatchString(statement)
}

func TestEveryQueryThatChangesAStatusWritesItsLogRow(t *testing.T) {
	changes := 0
	for _, q := range readQueries(t) {
		for _, statement := range q.statements() {
			if changesStatus(statement, writesJob) {
				changes++
				assert.Regexp(t, logsJob, q.body, "%s in %s changes a job's status and does not log it", q.name, q.file)
			}
			if changesStatus(statement, writesMigration) {
				changes++
				assert.Regexp(t, logsMigration, q.body, "%s in %s changes a migration's status and does not log it", q.name, q.file)
			}
		}
	}
	assert.Greater(t, changes, 10, "the test still recognizes the changes")
}

func TestTheWalkFindsAChangeThatIsNotLogged(t *testing.T) {
	for name, q := range map[string]query{
		"an update": {body: "\nUPDATE bbm.batched_background_migration_jobs AS j\nSET\n    status = 'failed'\nWHERE j.id = 1;"},
		"a CTE":     {body: "\nWITH a AS (\n    UPDATE bbm.batched_background_migration_jobs AS j\n    SET\n        status = 'failed'\n    WHERE j.id = 1\n)\n\nSELECT 1;"},
		"an insert": {body: "\nINSERT INTO bbm.batched_background_migration_jobs (status) VALUES ('pending');"},
	} {
		found := false
		for _, statement := range q.statements() {
			found = found || changesStatus(statement, writesJob)
		}
		assert.True(t, found, name)
	}
}

func TestEveryQueryTellsItsReviewerWhatItNeedsToKnow(t *testing.T) {
	for _, q := range readQueries(t) {
		for _, line := range []string{"\n-- Called by: ", "\n-- Index: ", "\n-- Locks: "} {
			assert.Contains(t, q.head, line, "%s in %s", q.name, q.file)
		}
		assert.NotContains(t, q.head, "'", "an apostrophe in a comment breaks sqlc's rewriting: %s in %s", q.name, q.file)
	}
}

func TestEveryLockingReadHasAnOrder(t *testing.T) {
	for _, q := range readQueries(t) {
		for _, statement := range q.statements() {
			if strings.Contains(statement, "FOR UPDATE") {
				assert.Contains(t, statement, "ORDER BY", "%s in %s", q.name, q.file)
			}
		}
	}
}
