package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/cli"
	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/localpg"
)

// asProgram makes this test binary behave as bbm-runner, under the race detector where the tests are.
const asProgram = "BBM_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(cli.Run(context.Background(), cli.Program{Args: os.Args[1:]}))
	}
	os.Exit(m.Run())
}

// newShortRound is a round that keeps its evidence when the test fails.
func newShortRound(t *testing.T, seed uint64) *round {
	t.Helper()
	binDir := os.Getenv(dbtest.BinVariable)
	if _, _, err := localpg.Find(t.Context(), binDir); errors.Is(err, localpg.ErrNotFound) {
		t.Skip(err)
	}
	dir, err := evidenceDir("")
	require.NoError(t, err)
	r := newRound(settings{
		seed: seed, dir: filepath.Join(dir, "round"), program: program{path: os.Args[0], environment: []string{asProgram + "=1"}},
		binDir: binDir, hardship: time.Minute, acts: 25, rows: 1000, turns: 2, deadline: 2 * time.Minute,
	})
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the evidence is in %s", dir)
			return
		}
		require.NoError(t, os.RemoveAll(dir))
	})
	return r
}

// Both seeds crash the server, kill runners, cut networks, swap and change tables and make the
// server read-only within their first 25 acts; where the acts change, look for others.
func TestNothingIsLostAndNothingIsDoneTwiceUnderTorture(t *testing.T) {
	t.Parallel()
	for _, seed := range []uint64{409, 1271} {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			r := newShortRound(t, seed)
			assert.Empty(t, r.play(t.Context()))
			t.Log(r.summary())
			assert.Positive(t, r.sum(actKill), "runners were killed")
			assert.Positive(t, r.sum(actCrash, actRestart), "the server was restarted")
			assert.Positive(t, r.sum(actReset, actStall, actSwallow), "networks were cut")
			for _, name := range []string{actSwap, actDDL, actReadOnly} {
				assert.Positive(t, r.sum(name), name)
			}
			assert.Positive(t, r.changed)
		})
	}
}

func TestTheCheckNoticesWhatWasLostDoneTwiceOrNotLogged(t *testing.T) {
	t.Parallel()
	r := newShortRound(t, 3)
	defer r.close()
	ctx := t.Context()
	require.NoError(t, r.setUp(ctx))
	for _, k := range r.kinds {
		r.clients = 0
		m := &migration{name: k.name, work: k.name + "_mark", kind: k, turn: 1, asked: time.Now()}
		m.enqueue = []string{"enqueue", m.work, "--name", m.name, "--arg", "turn=1", "--batch-size", "300"}
		r.migrations = append(r.migrations, m)
	}
	k := r.kinds[0]
	proving := &migration{name: "proving", work: k.name + "_" + workProve, kind: k, turn: 2, asked: time.Now()}
	proving.enqueue = []string{"enqueue", proving.work, "--name", proving.name, "--arg", "turn=2", "--batch-size", "300", "--on-row-error", "quarantine"}
	r.migrations = append(r.migrations, proving)
	end := r.begin(ctx)
	r.heal(ctx)
	r.awaitEnds(ctx)
	r.mend(ctx)
	r.awaitEnds(ctx)
	end()
	r.check(ctx)
	require.Empty(t, r.complaints, "all is well before anything is tampered with")

	table := "app." + r.kinds[0].name
	const job = `(SELECT min(id) FROM bbm.batched_background_migration_jobs)`
	for name, tc := range map[string]struct {
		tamper, mend string
		complaint    string
	}{
		"a row changed twice":    {`UPDATE $ SET counts[1] = 2 WHERE tag = 7`, `UPDATE $ SET counts[1] = 1 WHERE tag = 7`, "row 7 was changed 2 times"},
		"a row not changed":      {`UPDATE $ SET counts[1] = 0 WHERE tag = 7`, `UPDATE $ SET counts[1] = 1 WHERE tag = 7`, "row 7 was not changed"},
		"a row marked twice":     {`INSERT INTO $_marks VALUES (1, 7)`, `DELETE FROM $_marks WHERE ctid = (SELECT max(ctid) FROM $_marks WHERE tag = 7)`, "row 7 was marked 2 times"},
		"a mark too few":         {`UPDATE $_marks SET turn = 2 WHERE tag = 7`, `UPDATE $_marks SET turn = 1 WHERE tag = 7`, "row 7 was changed 1 times and marked 0 times"},
		"an update that is gone": {`UPDATE $ SET note = note - 1 WHERE tag = 7`, `UPDATE $ SET note = note + 1 WHERE tag = 7`, "row 7 was updated -1 times by the application"},
		"a row that is gone":     {`UPDATE $ SET tag = -tag WHERE tag = 7`, `UPDATE $ SET tag = -tag WHERE tag = -7`, "row 7 is not there any more"},
		"a row that remains": {
			`UPDATE $ SET proved = false, counts[2] = 0 WHERE tag = 7`, `UPDATE $ SET proved = true, counts[2] = 1 WHERE tag = 7`, "proving: finished, and row 7 remains",
		},
		"a proof that is gone": {
			`UPDATE bbm.batched_background_migration_verifications SET remaining_rows = 1, walked_rows = walked_rows + 1`,
			`UPDATE bbm.batched_background_migration_verifications SET remaining_rows = 0, walked_rows = walked_rows - 1`, "proving: finished, and no walk proves it",
		},
		"a row above the bound": {
			`UPDATE bbm.batched_background_migrations AS m SET max_key = j.until_key
				FROM bbm.batched_background_migration_jobs AS j WHERE j.id = ` + job + ` AND table_name = '$'`,
			`UPDATE bbm.batched_background_migrations SET max_key = frontier_key WHERE table_name = '$'`, "above its upper bound",
		},
		"a transition not logged": {
			`UPDATE bbm.batched_background_migration_job_transition_logs SET previous_status = 'failed'
				WHERE next_status = 'succeeded' AND batched_background_migration_job_id = ` + job,
			`UPDATE bbm.batched_background_migration_job_transition_logs SET previous_status = 'running'
				WHERE next_status = 'succeeded' AND batched_background_migration_job_id = ` + job, "history of",
		},
	} {
		require.True(t, r.exec(ctx, strings.ReplaceAll(tc.tamper, "$", table)), name)
		r.complaints = nil
		r.check(ctx)
		assert.Contains(t, strings.Join(r.complaints, "\n"), tc.complaint, name)
		require.True(t, r.exec(ctx, strings.ReplaceAll(tc.mend, "$", table)), name)
	}
	r.complaints = nil
	r.check(ctx)
	assert.Empty(t, r.complaints, "all is well when everything is mended")
}
