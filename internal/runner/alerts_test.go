package runner_test

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/runner"
)

// asJSON logs as in production.
func (w *world) asJSON(config runner.Config) runner.Config {
	config.Logger = slog.New(slog.NewJSONHandler(w.log, nil))
	return config
}

// records are the lines of a log in JSON whose message begins so.
func (w *world) records(message string) (found []map[string]any) {
	w.t.Helper()
	for line := range strings.Lines(w.log.String()) {
		var record map[string]any
		require.NoError(w.t, json.Unmarshal([]byte(line), &record), line)
		if text, _ := record["msg"].(string); strings.HasPrefix(text, message) {
			found = append(found, record)
		}
	}
	return found
}

// refuseByTrigger makes each change fail for good.
const refuseByTrigger = `
	CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM FROM nowhere; END';
	CREATE TRIGGER refuse BEFORE UPDATE ON public.items EXECUTE FUNCTION public.refuse()`

func TestAFailedMigrationIsLoggedWithItsCodeAndItsError(t *testing.T) {
	t.Parallel()
	for code, test := range map[string]struct{ work, spoil, reason string }{
		"max_attempts":   {strings.Replace(increment, "n + 1", "n / 0", 1), "", "job 1 failed in 1 of 1 attempts; the last: division_by_zero"},
		"invalid_work":   {increment, refuseByTrigger, "nowhere"},
		"invalid_cursor": {increment, `ALTER TABLE public.items DROP CONSTRAINT items_pkey`, "cursor"},
		"rows_remaining": {strings.Replace(increment, "-- cursor: id", "-- cursor: id\n-- remaining: n < 100", 1), "", "rows remain"},
	} {
		t.Run(code, func(t *testing.T) {
			w := setup(t, 2)
			if test.spoil != "" {
				w.exec(test.spoil)
			}
			w.enqueue("count", "public.items", 10, 10)
			w.exec(`UPDATE bbm.batched_background_migrations SET max_attempts = 1`)
			require.Error(t, w.runner(w.asJSON(w.config()), parse(t, "count", test.work)).Run(w.ctx))
			failures := w.records("migration failed")
			require.Len(t, failures, 1)
			assert.Equal(t, "ERROR", failures[0]["level"])
			assert.Equal(t, "count", failures[0]["migration"])
			assert.Equal(t, code, failures[0]["code"])
			assert.Contains(t, failures[0]["error"], test.reason)
			assert.Equal(t, code, one[string](w, `SELECT failure_error_code::text FROM bbm.batched_background_migrations`))
		})
	}
}

func TestALossToOthersIsLoggedWithTheMigration(t *testing.T) {
	w := setup(t, 40)
	w.enqueue("count", "public.items", 40, 8)
	goOn, stop := w.startMidway(16, w.asJSON(w.impatient()), parse(t, "count", increment))
	holder := w.holder(`SELECT FROM public.items WHERE id = 17 FOR UPDATE`)
	goOn()
	require.Eventually(t, func() bool { return w.counted("lost to others") > 0 }, 30*time.Second, time.Millisecond)
	require.NoError(t, holder.Rollback(w.ctx))
	require.NoError(t, stop())
	for _, loss := range w.records("sub-batch lost to others") {
		assert.Equal(t, "count", loss["migration"])
		assert.InDelta(t, 1, loss["job"], 0)
	}
}
