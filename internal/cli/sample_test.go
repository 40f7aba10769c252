package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

func TestSampleTellsWhatSubBatchesCostAndChangesNothing(t *testing.T) {
	w := setup(t)
	w.ok("enqueue", "increment")
	w.exec("ANALYZE app.items")
	before := w.dump()
	out := w.ok("sample", "increment", "--sub-batch-size", "10")
	assert.Equal(t, before, w.dump())
	assert.Contains(t, out, "sub-batch      10 rows\n")
	assert.Contains(t, out, "timeouts       lock 500ms, statement 1m0s\n")
	var samples []string
	for line := range strings.Lines(out) {
		if cells := strings.Fields(line); len(cells) > 10 && cells[1] != "#" && cells[3] == "10" {
			samples = append(samples, strings.Join(cells[:5], " "))
		}
	}
	assert.Equal(t, []string{"0 1 - 10 10", "0 2 10 10 10", "0.5 1 50 10 10", "0.5 2 60 10 10", "1 1 80 10 10", "1 2 90 10 10"}, samples)
	assert.Contains(t, out, "\nrecommended    sub_batch_size ")
	assert.Contains(t, out, "\nwhole run      about ")
	assert.Contains(t, out, " dead row versions in app.items")
}

func TestSamplePrintsOneObject(t *testing.T) {
	w := setup(t)
	var s struct {
		Samples []struct {
			At       float64
			Duration float64 `json:"duration_ms"`
		}
		Recommendation struct {
			SubBatchSize int `json:"sub_batch_size"`
		}
	}
	require.NoError(t, json.Unmarshal([]byte(w.ok("sample", "increment", "--at", "0.25", "--batches", "1", "--sub-batch-size", "5", "--json")), &s))
	require.Len(t, s.Samples, 1)
	assert.InDelta(t, 0.25, s.Samples[0].At, 1e-9)
	assert.Positive(t, s.Samples[0].Duration)
	assert.Positive(t, s.Recommendation.SubBatchSize)
}

func TestSampleRefusesWhatItCannotUse(t *testing.T) {
	w := setup(t)
	w.exec("CREATE TABLE app.nothing (id bigint PRIMARY KEY, n int)")
	w.file("idle", strings.ReplaceAll(increment, "app.items", "app.nothing"))
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"sample", "increment", "--at", "2"}, `--at: "2" is no place`},
		{[]string{"sample", "increment", "--at", "-0.1"}, `is no place`},
		{[]string{"sample", "increment", "--at", "NaN"}, `is no place`},
		{[]string{"sample", "increment", "--at", "0,,1"}, `--at: "" is no place`},
		{[]string{"sample", "increment", "--at", "half"}, `is no place`},
		{[]string{"sample", "increment", "--at", strings.Repeat("0,", 20) + "1"}, `--at names 21 places`},
		{[]string{"sample", "increment", "--batches", "0"}, `--batches is 0`},
		{[]string{"sample", "increment", "--batches", "101"}, `--batches is 101`},
		{[]string{"sample", "increment", "--sub-batch-size", "0"}, `--sub-batch-size is 0; give 1 to 50000`},
		{[]string{"sample", "increment", "--sub-batch-size", "50001"}, `give 1 to 50000`},
		{[]string{"sample", "idle"}, `app.nothing is empty: there is nothing to sample`},
	} {
		assert.Contains(t, w.refused(test.args...), test.want, test.args)
	}
	assert.Contains(t, w.ok("explain", "idle"), "app.nothing is empty: there is no range to plan for")
}

func TestASampleThatIsBlockedFailsWithOneLineThatNamesTheHolder(t *testing.T) {
	w := setup(t)
	w.environ = append(w.environ, "BBM_LOCK_TIMEOUT=400ms")
	others := dbtest.Connect(t, w.url)
	_, err := others.Exec(t.Context(), "BEGIN; UPDATE app.items SET n = 5 WHERE id = 50")
	require.NoError(t, err)
	r := w.run("sample", "increment")
	assert.Equal(t, exitFailed, r.code)
	assert.Empty(t, r.stdout)
	assert.Equal(t, 1, strings.Count(r.stderr, "\n"), r.stderr)
	assert.Contains(t, r.stderr, fmt.Sprintf("process %d (", others.PgConn().PID()))
	assert.Contains(t, r.stderr, "holds RowExclusiveLock on app.items")
}

func TestAWorkThatDeclaresExternalEffectsIsNotSampled(t *testing.T) {
	w := setup(t)
	p := Program{Args: []string{"--database-url", w.url, "--works", w.works, "sample", "mail"}, Environ: w.environ, Works: []*work.Work{{
		Name: "mail", Version: "1", Table: "app.items", Cursor: []string{"id"}, ExternalEffects: true,
		Do: func(context.Context, pgx.Tx, work.Batch) (int64, error) { t.Error("it was called"); return 0, nil },
	}}}
	var stdout, stderr buffer
	p.Stdin, p.Stdout, p.Stderr = strings.NewReader(""), &stdout, &stderr
	code := Run(t.Context(), p)
	w.requireRefusal(result{code, stdout.String(), stderr.String()})
	assert.Contains(t, stderr.String(), `work "mail" cannot be sampled: the work declares external effects`)
}

func TestSizesAreWrittenInTheUnitThatFits(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 B", 9999: "9999 B", 10_000: "10 kB", 5 << 20: "5120 kB", 20 << 20: "20 MB", 1 << 62: "4096 PB"} {
		assert.Equal(t, want, byteSize(n))
	}
}
