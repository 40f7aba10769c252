package schema_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	logs       = `bbm.batched_background_migration_job_transition_logs`
	maintained = `SELECT action || ' ' || right(partition_name, 7) FROM bbm.maintain_log_partitions($1::interval, $2::timestamptz)`
)

// maintain looks after the partitions as if it were another time, until nothing is left to do, and
// returns what it did.
func (w *world) maintain(retention, at string) (done []string) {
	w.t.Helper()
	for {
		step := list[string](w, maintained, retention, at)
		if len(step) == 0 {
			return done
		}
		require.Len(w.t, step, 1, "a transaction does one thing")
		done = append(done, step...)
	}
}

// months are the partitions that there are, but for the default one.
func (w *world) months() []string {
	w.t.Helper()
	return list[string](w, `
		SELECT right(inhrelid::regclass::text, 7) FROM pg_inherits
		WHERE inhparent = $1::text::regclass AND inhrelid::regclass::text !~ 'default' ORDER BY 1`, logs)
}

// setupJob makes a job whose transitions can be logged, and leaves the default partition alone with the log.
func setupJob(t *testing.T) *world {
	t.Helper()
	w := setup(t)
	for _, month := range w.months() {
		w.exec(`DROP TABLE ` + logs + `_` + month)
	}
	w.exec(`CREATE TABLE public.items (id bigint PRIMARY KEY)`)
	w.exec(`INSERT INTO public.items VALUES (1)`)
	w.exec(`SELECT bbm.enqueue('count', 'public.items')`)
	w.exec(`
		INSERT INTO bbm.batched_background_migration_jobs (batched_background_migration_id, until_key, status, finished_at)
		SELECT id, '{1}', 'succeeded', now() FROM bbm.batched_background_migrations`)
	return w
}

// log notes a transition at each time.
func (w *world) log(times ...string) {
	w.t.Helper()
	w.exec(`
		INSERT INTO `+logs+` (batched_background_migration_job_id, created_at, next_status, attempt)
		SELECT j.id, a::timestamptz, 'pending', 1 FROM bbm.batched_background_migration_jobs AS j, unnest($1::text[]) AS a`, times)
}

// logged lists the rows with the partition that each is in.
func (w *world) logged() []string {
	w.t.Helper()
	return list[string](w, `
		SELECT to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US "in" ') || substr(tableoid::regclass::text, length($1) + 2)
		FROM `+logs+` ORDER BY created_at, id`, logs)
}

func TestGoingUpMakesThisMonthAndThreeAhead(t *testing.T) {
	w := setup(t)
	require.Equal(t, list[string](w, `
		SELECT to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => g), 'YYYY_MM') FROM generate_series(0, 3) AS g`), w.months())
}

func TestMonthsAreMadeAheadAndDroppedPastRetention(t *testing.T) {
	w := setupJob(t)
	require.Equal(t, []string{"created 2031_11", "created 2031_12", "created 2032_01", "created 2032_02"}, w.maintain("6 months", "2031-11-30 23:59:59Z"))
	require.Empty(t, w.maintain("6 months", "2031-11-30 23:59:59Z"), "twice is harmless")
	require.Equal(t, []string{"created 2032_03"}, w.maintain("6 months", "2031-12-01 00:00:00Z"))

	// November ended on the 1st of December: six months later its last row is past retention.
	require.Equal(t, []string{"created 2032_05", "created 2032_06", "created 2032_07", "created 2032_08"}, w.maintain("6 months", "2032-05-31 23:59:59Z"))
	require.Equal(t, []string{"created 2032_09", "dropped 2031_11"}, w.maintain("6 months", "2032-06-01 00:00:00Z"))
	require.Equal(t, []string{"2031_12", "2032_01", "2032_02", "2032_03", "2032_05", "2032_06", "2032_07", "2032_08", "2032_09"}, w.months())
	require.Equal(t, []string{"dropped 2031_12", "dropped 2032_01", "dropped 2032_02", "dropped 2032_03", "dropped 2032_05"}, w.maintain("0", "2032-06-01 00:00:00Z"))
}

func TestRowsOfTheDefaultPartitionAreMovedToTheirMonth(t *testing.T) {
	w := setupJob(t)
	w.log("2031-10-31 23:59:59.999999Z", "2031-11-01 00:00:00Z", "2031-11-15Z", "2032-02-29 23:59:59.999999Z", "2032-03-01 00:00:00Z")
	w.maintain("100 years", "2031-11-15Z")
	require.Equal(t, []string{
		"2031-10-31 23:59:59.999999 in default",
		"2031-11-01 00:00:00.000000 in 2031_11",
		"2031-11-15 00:00:00.000000 in 2031_11",
		"2032-02-29 23:59:59.999999 in 2032_02",
		"2032-03-01 00:00:00.000000 in default",
	}, w.logged())
	w.log("2031-12-24Z")
	require.Contains(t, w.logged(), "2031-12-24 00:00:00.000000 in 2031_12", "a new row goes to its month at once")
	w.exec(`DELETE FROM bbm.batched_background_migrations`)
	require.Empty(t, w.logged(), "the history goes with its migration, from every partition")
}

func TestRowsOfTheDefaultPartitionPastRetentionGoToo(t *testing.T) {
	w := setupJob(t)
	w.log("2030-01-01 00:00:00Z", "2031-06-01 00:00:00Z")
	require.Contains(t, w.maintain("6 months", "2031-11-15Z"), "trimmed default")
	require.Equal(t, []string{"2031-06-01 00:00:00.000000 in default"}, w.logged())
}

// Else the locks of all would be held until the last of them is gone.
func TestEachMonthIsDroppedInATransactionOfItsOwn(t *testing.T) {
	w := setupJob(t)
	w.maintain("100 years", "2031-01-15Z")
	w.maintain("100 years", "2031-09-15Z") // makes those ahead, so that only months to drop are left
	other := w.another()
	w.exec(`BEGIN`)
	require.Equal(t, []string{"dropped 2031_01"}, list[string](w, maintained, "1 month", "2031-09-15Z"))
	w.exec(`COMMIT`)
	require.Equal(t, []string{"dropped 2031_02"}, list[string](other, maintained, "1 month", "2031-09-15Z"))
	require.Equal(t, []string{"dropped 2031_03", "dropped 2031_04"}, w.maintain("1 month", "2031-09-15Z"))
}

func TestMonthsAreThoseOfUTCWhateverTheSessionsSettings(t *testing.T) {
	w := setupJob(t)
	for i, setting := range []string{`TimeZone = 'Pacific/Kiritimati'`, `DateStyle = 'SQL, DMY'`, `DateStyle = 'German'`, `DateStyle = 'Postgres, MDY'`} {
		w.exec(`SET ` + setting)
		at := time.Date(2031+i, time.January, 31, 23, 0, 0, 0, time.UTC)
		require.Len(t, w.maintain("100 years", at.Format(time.RFC3339)), 4, setting)
		require.Contains(t, w.months(), at.Format("2006_01"), setting)
	}
	w.exec(`RESET TimeZone`)
	w.log("2031-02-01 00:00:00Z", "2032-03-31 23:59:59.999999Z")
	require.Equal(t, []string{"2031-02-01 00:00:00.000000 in 2031_02", "2032-03-31 23:59:59.999999 in 2032_03"}, w.logged())
}

func TestASecondCallerAtTheSameTimeReturnsAtOnce(t *testing.T) {
	w := setupJob(t)
	other := w.another()
	other.exec(`SELECT pg_advisory_lock(1650617605, 0)`)
	require.Empty(t, w.maintain("6 months", "2031-11-15Z"))
	require.Empty(t, w.months())
	require.Empty(t, list[string](w, `SELECT action FROM bbm.maintain_log(6)`))
	other.exec(`SELECT pg_advisory_unlock(1650617605, 0)`)
	require.Len(t, w.maintain("6 months", "2031-11-15Z"), 4)
}

func TestALockOnTheLogIsGivenUpWithinASecond(t *testing.T) {
	for name, lock := range map[string]string{
		"on the log":               `LOCK TABLE ` + logs + ` IN ACCESS EXCLUSIVE MODE`,
		"on the default partition": `LOCK TABLE ` + logs + `_default IN ROW EXCLUSIVE MODE`,
		"on the jobs":              `LOCK TABLE bbm.batched_background_migration_jobs IN EXCLUSIVE MODE`,
	} {
		t.Run(name, func(t *testing.T) {
			w := setupJob(t)
			other := w.another()
			other.exec(`BEGIN`)
			other.exec(lock)
			// Generous: a second's wait for each lock that it takes, on a busy machine.
			w.exec(`SET statement_timeout = '20s'`)
			refusal := w.refused(maintained, "6 months", "2031-11-15Z")
			require.Equal(t, "55P03", refusal.Code, refusal.Message)
			require.Empty(t, w.months())
			other.exec(`ROLLBACK`)
			require.Len(t, w.maintain("6 months", "2031-11-15Z"), 4)
			require.NotEqual(t, "1s", one[string](w, `SHOW lock_timeout`), "the caller's own setting is back")
		})
	}
}

func TestASubBatchInProgressKeepsNoPartitionFromBeingMadeOrDropped(t *testing.T) {
	w := setupJob(t)
	w.maintain("6 months", "2030-01-15Z")
	subBatch := w.another()
	subBatch.exec(`BEGIN`)
	subBatch.exec(`SELECT FROM bbm.batched_background_migration_jobs ORDER BY id FOR UPDATE`)
	done := w.maintain("6 months", "2031-01-15Z")
	assert.Contains(t, done, "created 2031_01")
	assert.Contains(t, done, "dropped 2030_01")
	subBatch.exec(`ROLLBACK`)
}

func TestALockThatIsNotHadUndoesNoEarlierMonth(t *testing.T) {
	w := setupJob(t)
	w.maintain("100 years", "2031-01-15Z")
	w.maintain("100 years", "2031-09-15Z")
	require.Equal(t, []string{"dropped 2031_01"}, list[string](w, maintained, "1 month", "2031-09-15Z"))
	other := w.another()
	other.exec(`BEGIN`)
	other.exec(`SELECT FROM ` + logs + ` LIMIT 0`)
	require.Equal(t, "55P03", w.refused(maintained, "1 month", "2031-09-15Z").Code)
	require.NotContains(t, w.months(), "2031_01")
	require.Contains(t, w.months(), "2031_02")
}

func TestANegativeOrMissingRetentionIsRefused(t *testing.T) {
	w := setup(t)
	for _, call := range []string{
		`SELECT bbm.maintain_log_partitions('-1 day', now())`, `SELECT bbm.maintain_log_partitions(NULL, now())`,
		`SELECT bbm.maintain_log_partitions('1 year', NULL)`,
	} {
		require.Equal(t, "22023", w.refused(call).Code, call)
	}
}

// What a role may call has the server's clock, and keeps the whole month before this one.
func TestWhatARunnerCallsKeepsAWholeMonth(t *testing.T) {
	w := setupJob(t)
	for _, months := range []string{`0`, `-1`, `NULL`, `-2147483648`} {
		refusal := w.refused(`SELECT bbm.maintain_log(` + months + `)`)
		require.Equal(t, "22023", refusal.Code, months)
		require.Equal(t, "the history of jobs is kept for at least one whole month", refusal.Message)
	}
	const before = `SELECT to_char(date_trunc('month', now() AT TIME ZONE 'UTC') - make_interval(months => $1), 'YYYY_MM')`
	three, lastMonth := one[string](w, before, 3), one[string](w, before, 1)
	for _, monthsAgo := range []int{4, 0} {
		w.maintain("100 years", one[string](w, `SELECT (now() - make_interval(months => $1))::text`, monthsAgo))
	}
	require.Contains(t, w.months(), three)
	for one[int](w, `SELECT count(*) FROM bbm.maintain_log(1)`) > 0 {
	}
	require.NotContains(t, w.months(), three)
	require.Contains(t, w.months(), lastMonth)
	require.Len(t, w.months(), 5, "last month, this one and three ahead")
	for one[int](w, `SELECT count(*) FROM bbm.maintain_log(2147483647)`) > 0 {
	}
	require.Len(t, w.months(), 5)
}
