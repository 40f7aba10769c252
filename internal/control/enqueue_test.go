package control

import (
	"errors"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/work"
)

func ptr[T any](v T) *T { return &v }

func TestEnqueueCreatesAPinnedMigration(t *testing.T) {
	t.Parallel()
	f := setup(t, 1000)
	result := f.enqueue(EnqueueOptions{
		Work: "taking", Name: "my run", Arguments: map[string]string{"step": "2"}, BatchSize: ptr(300), SubBatchSize: ptr(30),
		Interval: ptr(time.Minute), Pause: ptr(50 * time.Millisecond), MaxAttempts: ptr(2), Parallelism: ptr(3), Paused: true,
	})
	assert.Equal(t, "my run", result.Name)
	assert.True(t, result.Created)
	assert.Equal(t, "paused", result.Status)
	assert.Equal(t, "public.users", result.Table)
	assert.EqualValues(t, 1000, result.Rows)
	assert.EqualValues(t, 4, result.Jobs)
	m := f.migration("my run")
	assert.Equal(t, "taking", m.WorkName)
	assert.Equal(t, result.Checksum, *m.WorkChecksum)
	assert.JSONEq(t, `{"step": "2"}`, string(m.Arguments))
	assert.Equal(t, []string{"id"}, m.CursorColumns)
	assert.EqualValues(t, 300, *m.BatchSize)
	assert.EqualValues(t, 30, *m.SubBatchSize)
	assert.Equal(t, time.Minute, m.JobInterval)
	assert.Equal(t, 50*time.Millisecond, m.Pause)
	assert.EqualValues(t, 2, m.MaxAttempts)
	assert.EqualValues(t, 3, m.Parallelism)
	assert.EqualValues(t, 1000, *m.TotalTupleCount)
	assert.Nil(t, m.MaxKey, "the bounds are a runner's to fix")
	logs := f.history("my run")
	require.Len(t, logs, 1)
	assert.Nil(t, logs[0].PreviousStatus)
	assert.Equal(t, "paused", logs[0].NextStatus)
}

func TestSizesComeFromTheFlagThenTheHeaderThenTheDefault(t *testing.T) {
	t.Parallel()
	f := setup(t, 10)
	for name, c := range map[string]struct {
		options  EnqueueOptions
		batch    int32
		subBatch *int32
	}{
		"defaults":         {EnqueueOptions{Work: "plain"}, work.DefaultBatchSize, nil},
		"headers":          {EnqueueOptions{Work: "tuned"}, 100, ptr(int32(10))},
		"one flag":         {EnqueueOptions{Work: "tuned", BatchSize: ptr(50)}, 50, ptr(int32(10))},
		"the other flag":   {EnqueueOptions{Work: "tuned", SubBatchSize: ptr(100)}, 100, ptr(int32(100))},
		"the largest ones": {EnqueueOptions{Work: "plain", BatchSize: ptr(math.MaxInt32), SubBatchSize: ptr(math.MaxInt32)}, math.MaxInt32, ptr(int32(math.MaxInt32))},
	} {
		c.options.Name = name
		dry := c.options
		dry.DryRun = true
		planned := f.enqueue(dry)
		created := f.enqueue(c.options)
		m := f.migration(name)
		assert.Equal(t, c.batch, *m.BatchSize, name)
		assert.Equal(t, c.subBatch, m.SubBatchSize, name)
		planned.Status = created.Status
		assert.Equal(t, created, planned, "%s: a dry run tells what there will be", name)
	}
}

func TestBadInputIsRefusedAndChangesNothing(t *testing.T) {
	t.Parallel()
	f := setup(t, 10)
	f.exec(`CREATE TABLE public.odd (id int PRIMARY KEY, maybe int UNIQUE, lonely int NOT NULL)`)
	onOdd := func(cursor string) string {
		return "-- description: d\n-- table: public.odd\n-- cursor: " + cursor + "\n\n-- +bbm Work\nDELETE FROM public.odd AS u WHERE @batch(u)"
	}
	files := map[string]string{
		"plain": usersFile, "tuned": "-- batch_size: 100\n-- sub_batch_size: 10\n" + usersFile,
		"taking":   strings.Replace(usersFile, "-- cursor", "-- argument: step int\n-- cursor", 1) + " AND u.n <> @step",
		"lost":     strings.ReplaceAll(usersFile, "public.users", "public.userz"),
		"nullable": onOdd("maybe"), "unindexed": onOdd("lonely"), "columnless": onOdd("nope"),
		"mistaken": strings.Replace(usersFile, "n + 1", "m + 1", 1),
	}
	f.Works = registry(t, files)
	before := f.dump()
	for _, c := range []struct {
		options EnqueueOptions
		want    string
	}{
		{EnqueueOptions{Work: "plane"}, `there is no work "plane"; there are columnless, lost, mistaken`},
		{EnqueueOptions{Work: "plain", Name: strings.Repeat("ü", 101)}, "the name has 101 characters; give at most 100"},
		{EnqueueOptions{Work: "plain", Name: "  "}, "the name is empty"},
		{EnqueueOptions{Work: "plain", Name: "a\nb"}, "is no name for a migration"},
		{EnqueueOptions{Work: "plain", BatchSize: ptr(0)}, "a batch size of 0 is not possible; give 1 to 2147483647"},
		{EnqueueOptions{Work: "plain", BatchSize: ptr(-5)}, "a batch size of -5 is not possible"},
		{EnqueueOptions{Work: "plain", BatchSize: ptr(1 << 31)}, "a batch size of 2147483648 is not possible"},
		{EnqueueOptions{Work: "plain", SubBatchSize: ptr(0)}, "a sub-batch size of 0 is not possible"},
		{EnqueueOptions{Work: "plain", BatchSize: ptr(5), SubBatchSize: ptr(6)}, "the batch size of 5 is below the sub-batch size of 6"},
		{EnqueueOptions{Work: "plain", SubBatchSize: ptr(50_001)}, "the batch size of 50000 is below the sub-batch size of 50001"},
		{EnqueueOptions{Work: "tuned", BatchSize: ptr(9)}, "the batch size of 9 is below the sub-batch size of 10"},
		{EnqueueOptions{Work: "plain", Interval: ptr(-time.Second)}, "the interval of -1s is negative"},
		{EnqueueOptions{Work: "plain", Pause: ptr(-time.Second)}, "the pause of -1s is negative"},
		{EnqueueOptions{Work: "plain", MaxAttempts: ptr(0)}, "a number of attempts of 0 is not possible"},
		{EnqueueOptions{Work: "plain", Parallelism: ptr(0)}, "a parallelism of 0 is not possible"},
		{EnqueueOptions{Work: "plain", Arguments: map[string]string{"x": "1"}}, `unknown argument "x"`},
		{EnqueueOptions{Work: "taking"}, `argument "step" (int) is missing`},
		{EnqueueOptions{Work: "taking", Arguments: map[string]string{"step": "two"}}, `argument "step" is no int: invalid input syntax for type integer: "two"`},
		{EnqueueOptions{Work: "taking", Arguments: map[string]string{"step": "\x00"}}, `argument "step" is not UTF-8 text`},
		{EnqueueOptions{Work: "lost"}, "table public.userz does not exist"},
		{EnqueueOptions{Work: "columnless"}, "public.odd has no column nope"},
		{EnqueueOptions{Work: "nullable"}, "column maybe of public.odd may be NULL"},
		{EnqueueOptions{Work: "unindexed"}, "CREATE UNIQUE INDEX CONCURRENTLY ON public.odd (lonely)"},
		{EnqueueOptions{Work: "mistaken"}, `work "mistaken":6: column "m" does not exist`},
	} {
		for _, dry := range []bool{false, true} {
			c.options.DryRun = dry
			_, err := f.Enqueue(t.Context(), c.options)
			require.ErrorContains(t, err, c.want)
			var input *InputError
			var definition *work.DefinitionError
			assert.True(t, errors.As(err, &definition) || errors.As(err, &input), c.want) //nolint:testifylint // one of two
			assert.NotContains(t, err.Error(), "\n")
		}
	}
	assert.Equal(t, before, f.dump())
	f.Works = nil
	_, err := f.Enqueue(t.Context(), EnqueueOptions{Work: "plain"})
	requireInput(t, err, `there is no work "plain", and no other either`)
}

func TestEnqueueTwiceIsOnce(t *testing.T) {
	t.Parallel()
	f := setup(t, 10)
	first := f.enqueue(EnqueueOptions{Work: "taking", Arguments: map[string]string{"step": "1"}})
	before := f.dump()
	again := f.enqueue(EnqueueOptions{Work: "taking", Arguments: map[string]string{"step": "1"}})
	assert.True(t, first.Created)
	assert.False(t, again.Created)
	assert.Empty(t, again.IgnoredTuning)

	again = f.enqueue(EnqueueOptions{
		Work: "taking", Arguments: map[string]string{"step": "1"}, BatchSize: ptr(1000), SubBatchSize: ptr(10), Interval: ptr(time.Second),
		Pause: ptr(time.Duration(0)), MaxAttempts: ptr(5), Parallelism: ptr(2), Paused: true,
	})
	assert.Equal(t, []string{
		"batch_size=1000 (it has 50000)", "sub_batch_size=10 (it has auto)", "interval=1s (it has 0s)", "parallelism=2 (it has 1)",
		"paused (it is active)",
	}, again.IgnoredTuning)
	assert.Equal(t, before, f.dump())

	f.force("taking", failed)
	again = f.enqueue(EnqueueOptions{Work: "taking", Arguments: map[string]string{"step": "1"}})
	assert.Equal(t, "failed", again.Status)
	require.Len(t, again.Warnings, 1)
	assert.Contains(t, again.Warnings[0], "bbm-runner retry taking")
}

func TestANameWithAnotherDefinitionIsTaken(t *testing.T) {
	t.Parallel()
	f := setup(t, 10)
	f.enqueue(EnqueueOptions{Work: "taking", Name: "it", Arguments: map[string]string{"step": "1"}})
	for want, o := range map[string]EnqueueOptions{
		`it runs the work "taking"; its arguments are {"step": "1"}; give this one another name`: {Work: "plain", Name: "it"},
		`definition: its arguments are {"step": "1"}; give`:                                      {Work: "taking", Name: "it", Arguments: map[string]string{"step": "2"}},
	} {
		for _, o.DryRun = range []bool{false, true} {
			_, err := f.Enqueue(t.Context(), o)
			requireInput(t, err, want)
		}
	}
	f.exec(`UPDATE bbm.batched_background_migrations SET work_checksum = '00000000deadbeef'`)
	_, err := f.Enqueue(t.Context(), EnqueueOptions{Work: "taking", Name: "it", Arguments: map[string]string{"step": "1"}})
	requireInput(t, err, "it runs version 00000000deadbeef of the work, and the present one is ")
	requireInput(t, err, "--accept-work")
	f.exec(`UPDATE bbm.batched_background_migrations SET work_checksum = NULL, table_oid = 'public.users_pkey'::regclass`)
	_, err = f.Enqueue(t.Context(), EnqueueOptions{Work: "taking", Name: "it", Arguments: map[string]string{"step": "1"}})
	requireInput(t, err, "it is for the table public.users with the oid")
}

func TestEnqueueAfterSQLPinsAndTunes(t *testing.T) {
	t.Parallel()
	f := setup(t, 10)
	f.exec(`SELECT bbm.enqueue('taking', 'public.users', arguments => '{"step": 1}', batch_size => 1000)`)
	result := f.enqueue(EnqueueOptions{Work: "taking", Arguments: map[string]string{"step": "1"}, SubBatchSize: ptr(10), MaxAttempts: ptr(2)})
	assert.False(t, result.Created)
	assert.Empty(t, result.IgnoredTuning)
	m := f.migration("taking")
	assert.Equal(t, result.Checksum, *m.WorkChecksum)
	assert.EqualValues(t, 1000, *m.BatchSize)
	assert.EqualValues(t, 10, *m.SubBatchSize)
	assert.EqualValues(t, 2, m.MaxAttempts)
	assert.Len(t, f.history("taking"), 1)

	f.exec(`SELECT bbm.enqueue('plain', 'public.users', batch_size => 5)`)
	_, err := f.Enqueue(t.Context(), EnqueueOptions{Work: "plain", SubBatchSize: ptr(6)})
	requireInput(t, err, "the batch size of 5 is below the sub-batch size of 6")
	assert.Nil(t, f.migration("plain").WorkChecksum)
}

func TestEnqueueBySQLAfterTheCommandLineChangesNothing(t *testing.T) {
	t.Parallel()
	f := setup(t, 10)
	f.enqueue(EnqueueOptions{Work: "taking", Arguments: map[string]string{"step": "1"}})
	before := f.dump()
	f.exec(`SELECT bbm.enqueue('taking', 'public.users', arguments => '{"step": 1}', batch_size => 1000)`)
	assert.Equal(t, before, f.dump())
	_, err := f.Conn.Exec(t.Context(), `SELECT bbm.enqueue('taking', 'public.users', arguments => '{"step": 2}')`)
	require.ErrorContains(t, err, `the name "taking" is taken by a migration with another definition`)
}

func TestEnqueuesAtOnceCreateOne(t *testing.T) {
	t.Parallel()
	f := setup(t, 10)
	const callers, rounds = 4, 10
	controls := make([]*Control, callers)
	for i := range controls {
		controls[i] = f.another()
	}
	for round := range rounds {
		name := strings.Repeat("x", round+1)
		var group sync.WaitGroup
		created := make([]bool, callers)
		errs := make([]error, callers)
		for i, c := range controls {
			group.Go(func() {
				// Half of them ask for something else.
				step := []string{"1", "2"}[i%2]
				var result EnqueueResult
				result, errs[i] = c.Enqueue(t.Context(), EnqueueOptions{Work: "taking", Name: name, Arguments: map[string]string{"step": step}})
				created[i] = result.Created
			})
		}
		group.Wait()
		winners, refused := 0, 0
		for i := range callers {
			if created[i] {
				winners++
			}
			if errs[i] != nil {
				requireInput(t, errs[i], "is taken by a migration with another definition: its arguments are")
				refused++
			}
		}
		assert.Equal(t, 1, winners)
		assert.Equal(t, callers/2, refused)
		assert.NotNil(t, f.migration(name).WorkChecksum)
		assert.Len(t, f.history(name), 1)
	}
}

func TestAnEmptyTableIsFinishedAtOnce(t *testing.T) {
	t.Parallel()
	f := setup(t, 0)
	result := f.enqueue(EnqueueOptions{Work: "plain"})
	assert.Equal(t, "finished", result.Status)
	m := f.migration("plain")
	assert.NotNil(t, m.WorkChecksum)
	assert.Zero(t, *m.TotalTupleCount)
	assert.False(t, f.enqueue(EnqueueOptions{Work: "plain"}).Created)

	assert.Equal(t, "paused", f.enqueue(EnqueueOptions{Work: "plain", Name: "later", Paused: true}).Status)
}

func TestOddNamesAndPartitions(t *testing.T) {
	t.Parallel()
	f := setup(t, 0)
	f.exec(`CREATE SCHEMA "Odd ""S"`)
	f.exec(`CREATE TABLE "Odd ""S"."T x" ("Id" int PRIMARY KEY, n int) PARTITION BY RANGE ("Id")`)
	f.exec(`CREATE TABLE "Odd ""S".p1 PARTITION OF "Odd ""S"."T x" FOR VALUES FROM (0) TO (100)`)
	f.exec(`CREATE TABLE "Odd ""S".p2 PARTITION OF "Odd ""S"."T x" FOR VALUES FROM (100) TO (1000)`)
	f.exec(`INSERT INTO "Odd ""S"."T x" SELECT generate_series(1, 500)`)
	file := `-- description: d
-- table: "Odd ""S".TABLE
-- cursor: "Id"

-- +bbm Work
UPDATE "Odd ""S".TABLE AS "U u" SET n = 1 WHERE @batch("U u")`
	f.Works = registry(t, map[string]string{
		"whole": strings.ReplaceAll(file, "TABLE", `"T x"`), "part": strings.ReplaceAll(file, "TABLE", "p2"),
	})
	whole := f.enqueue(EnqueueOptions{Work: "whole", Name: `it's "the" run / ünï`})
	assert.Equal(t, `"Odd ""S"."T x"`, whole.Table)
	part := f.enqueue(EnqueueOptions{Work: "part"})
	assert.Equal(t, `"Odd ""S".p2`, part.Table)
	assert.Equal(t, f.migration(whole.Name).TableOid, f.migration("part").RootTableOid)
	migrations, err := f.Status(t.Context(), whole.Name)
	require.NoError(t, err)
	assert.Equal(t, `"Odd ""S"."T x"`, migrations[0].Table)
}
