package schema_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/schema"
)

func up(t *testing.T, target string) []string {
	t.Helper()
	config, err := pgx.ParseConfig(target)
	require.NoError(t, err)
	files, err := schema.Up(t.Context(), config)
	require.NoError(t, err)
	return files
}

func down(t *testing.T, target string) []string {
	t.Helper()
	config, err := pgx.ParseConfig(target)
	require.NoError(t, err)
	files, err := schema.Down(t.Context(), config)
	require.NoError(t, err)
	return files
}

// files are those of the folder, in order.
func files(t *testing.T) []string {
	t.Helper()
	names, err := fs.Glob(schema.FS, "*.sql")
	require.NoError(t, err)
	require.NotEmpty(t, names)
	slices.Sort(names)
	return names
}

// objects lists what is in the schema bbm, of whatever kind.
func (w *world) objects() []string {
	w.t.Helper()
	return list[string](w, `
		SELECT pg_describe_object(d.classid, d.objid, d.objsubid)
		FROM pg_depend AS d
		WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = to_regnamespace('bbm')
		ORDER BY 1`)
}

// fill makes forty migrations, two thousand jobs, and twenty thousand rows of log in every partition that there is.
func (w *world) fill() {
	w.t.Helper()
	w.exec(`CREATE TABLE public.items (id bigint PRIMARY KEY)`)
	w.exec(`INSERT INTO public.items VALUES (1)`)
	w.exec(`SELECT bbm.enqueue('count', 'public.items', 'count ' || g) FROM generate_series(1, 40) AS g`)
	w.exec(`
		INSERT INTO bbm.batched_background_migration_jobs (batched_background_migration_id, until_key, status, finished_at)
		SELECT m.id, ARRAY[g::text], 'succeeded', now()
		FROM bbm.batched_background_migrations AS m, generate_series(1, 50) AS g`)
	w.exec(`
		INSERT INTO bbm.batched_background_migration_job_transition_logs (batched_background_migration_job_id, created_at, next_status, attempt)
		SELECT j.id, now() + make_interval(months => g), 'pending', 1
		FROM bbm.batched_background_migration_jobs AS j, generate_series(-3, 6) AS g`)
	require.Positive(w.t, one[int](w, `SELECT count(*) FROM bbm.batched_background_migration_job_transition_logs_default`))
}

func TestUpDownAndUpAgainOnADatabaseWithDataInIt(t *testing.T) {
	w := setupEmpty(t)
	require.Equal(t, files(t), up(t, w.url))
	require.Empty(t, up(t, w.url), "there is nothing left to apply")
	fresh := w.objects()
	w.fill()

	undone := files(t)
	slices.Reverse(undone)
	require.Equal(t, undone, down(t, w.url))
	require.Equal(t, []string{"sequence bbm.goose_db_version_id_seq", "table bbm.goose_db_version"}, w.objects())
	require.Equal(t, int64(0), w.version())
	require.Empty(t, down(t, w.url), "there is nothing left to undo")
	require.Equal(t, 1, one[int](w, `SELECT count(*) FROM public.items`), "the application's table is not ours")

	require.Equal(t, files(t), up(t, w.url))
	require.Equal(t, fresh, w.objects())
	require.Zero(t, one[int](w, `SELECT count(*) FROM bbm.batched_background_migrations`))
	w.exec(`SELECT bbm.enqueue('count', 'public.items')`)
}

// version is the latest that goose has noted.
func (w *world) version() int64 {
	w.t.Helper()
	return one[int64](w, `SELECT max(version_id) FROM bbm.goose_db_version WHERE is_applied`)
}

func TestLatestIsTheLastFile(t *testing.T) {
	w := setup(t)
	latest, err := schema.Latest()
	require.NoError(t, err)
	names := files(t)
	require.EqualValues(t, len(names), latest, "files are numbered without gaps")
	require.True(t, strings.HasPrefix(names[len(names)-1], fmt.Sprintf("%05d_", latest)))
	require.Equal(t, latest, w.version())
}

// upAndReport is what a process of its own does; see TestMain.
func upAndReport(target string) int {
	config, err := pgx.ParseConfig(target)
	if err == nil {
		_, err = schema.Up(context.Background(), config)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func TestFourProcessesThatGoUpAtOnceApplyEachVersionOnce(t *testing.T) {
	w := setupEmpty(t)
	processes := make([]*exec.Cmd, 4)
	reports := make([]bytes.Buffer, len(processes))
	for i := range processes {
		processes[i] = exec.CommandContext(t.Context(), os.Args[0])
		processes[i].Env = append(os.Environ(), asUp+"="+w.url)
		processes[i].Stderr = &reports[i]
		require.NoError(t, processes[i].Start())
	}
	for i, process := range processes {
		assert.NoError(t, process.Wait(), "process %d: %s", i, &reports[i])
	}
	latest, err := schema.Latest()
	require.NoError(t, err)
	want := make([]int64, 0, latest+1)
	for version := range latest + 1 { // goose notes a version 0 of its own
		want = append(want, version)
	}
	require.Equal(t, want, list[int64](w, `SELECT version_id FROM bbm.goose_db_version ORDER BY id`))
}

func TestARoleThatMayNotCreateSchemasGoesUpWhereTheSchemaExists(t *testing.T) {
	t.Parallel()
	name, in := role(t)
	w := connected(t, dbtest.NewEmpty(t))
	config, err := pgx.ParseConfig(in(w.url))
	require.NoError(t, err)
	_, err = schema.Up(t.Context(), config)
	require.ErrorContains(t, err, "create schema bbm")

	w.exec(`CREATE SCHEMA bbm`)
	w.exec(`GRANT USAGE, CREATE ON SCHEMA bbm TO ` + name)
	require.Equal(t, files(t), up(t, in(w.url)))
	mine := connected(t, in(w.url))
	mine.exec(`SELECT bbm.maintain_log(12)`)
	require.NotEmpty(t, down(t, in(w.url)))
	require.NotEmpty(t, up(t, in(w.url)))
}

func TestAnApplicationsOwnGooseTableIsNotTouched(t *testing.T) {
	w := setupEmpty(t)
	w.exec(`CREATE TABLE public.goose_db_version (id int PRIMARY KEY, version_id bigint, is_applied boolean, tstamp timestamp)`)
	w.exec(`INSERT INTO public.goose_db_version VALUES (1, 0, true, '2020-01-01'), (2, 20200101000000, true, '2020-01-01')`)
	content := func() []string {
		return list[string](w, `SELECT g::text FROM public.goose_db_version AS g ORDER BY id`)
	}
	before := content()
	up(t, w.url)
	require.Equal(t, before, content())
	down(t, w.url)
	require.Equal(t, before, content())
}
