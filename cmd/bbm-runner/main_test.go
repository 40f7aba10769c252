package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

// asProgram makes this test binary behave as bbm-runner: what is tested is the program, as processes that can be killed.
const asProgram = "BBM_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	dbtest.Main(m)
}

const increment = `-- description: Count. Not idempotent.
-- table: public.items
-- cursor: id

-- +bbm Work
UPDATE public.items AS i SET n = n + 1 WHERE @batch(i);
`

// fleet is a database with a table of rows, one migration of it, and the processes that run it.
type fleet struct {
	t     *testing.T
	url   string
	conn  *pgx.Conn
	works string
	env   []string // settings beside those of all tests
}

// newFleet prepares a database by the program's own commands.
func newFleet(t *testing.T, url string, rows, slots int, enqueue ...string) *fleet {
	t.Helper()
	f := &fleet{t: t, url: url, works: t.TempDir()}
	require.NoError(t, os.WriteFile(filepath.Join(f.works, "count.sql"), []byte(increment), 0o600))
	f.conn = dbtest.Connect(t, url)
	f.exec(`CREATE TABLE public.items (id bigint PRIMARY KEY, n integer NOT NULL DEFAULT 0)`)
	f.exec(`INSERT INTO public.items (id) SELECT g FROM generate_series(1, $1::int) AS g`, rows)
	f.run("schema", "up")
	f.run("enable")
	f.run("set", "--fleet", fmt.Sprintf("slots=%d", slots))
	f.run(append([]string{"enqueue", "count"}, enqueue...)...)
	return f
}

func (f *fleet) exec(sql string, args ...any) {
	f.t.Helper()
	_, err := f.conn.Exec(f.t.Context(), sql, args...)
	require.NoError(f.t, err)
}

func one[T any](f *fleet, sql string, args ...any) T {
	f.t.Helper()
	var value T
	require.NoError(f.t, f.conn.QueryRow(f.t.Context(), sql, args...).Scan(&value))
	return value
}

func (f *fleet) eventually(condition string, args ...any) {
	f.t.Helper()
	require.Eventually(f.t, func() bool { return one[bool](f, `SELECT coalesce((`+condition+`), false)`, args...) },
		time.Minute, time.Millisecond, condition)
}

func (f *fleet) command(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "BBM_DATABASE_URL="+f.url, "BBM_WORKS_DIR="+f.works, "BBM_ENABLED=true",
		"BBM_POLL_INTERVAL=20ms", "BBM_LOG_LEVEL=debug")
	cmd.Env = append(cmd.Env, f.env...)
	return cmd
}

// run executes a command that must succeed.
func (f *fleet) run(args ...string) {
	f.t.Helper()
	output, err := f.command(args...).CombinedOutput()
	require.NoError(f.t, err, "%s: %s", strings.Join(args, " "), output)
}

// process is a runner of its own.
type process struct {
	cmd  *exec.Cmd
	log  *logBuffer
	done chan error
	once sync.Once
	err  error
}

func (f *fleet) start(args ...string) *process {
	f.t.Helper()
	return f.launch(f.command(append([]string{"run"}, args...)...))
}

func (f *fleet) launch(cmd *exec.Cmd) *process {
	f.t.Helper()
	p := &process{cmd: cmd, log: &logBuffer{}, done: make(chan error, 1)}
	p.cmd.Stderr = p.log
	require.NoError(f.t, p.cmd.Start())
	go func() { p.done <- p.cmd.Wait() }()
	f.t.Cleanup(func() {
		p.kill()
		if f.t.Failed() {
			f.t.Logf("runner %d:\n%s", p.cmd.Process.Pid, p.log)
		}
	})
	return p
}

// logBuffer may be read while the process writes.
type logBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// wait returns how the process has ended.
func (p *process) wait() error {
	p.once.Do(func() {
		select {
		case p.err = <-p.done:
		case <-time.After(time.Minute):
			p.err = fmt.Errorf("process %d does not end", p.cmd.Process.Pid)
		}
	})
	return p.err
}

func (p *process) kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	_ = p.wait()
}

func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	return p.wait()
}

// eachOnce proves the outcome.
func (f *fleet) eachOnce() {
	f.t.Helper()
	require.Equal(f.t, "finished", one[string](f, `SELECT status::text FROM bbm.batched_background_migrations`))
	require.Zero(f.t, one[int](f, `SELECT count(*) FROM public.items WHERE n <> 1`), "rows not changed exactly once")
	dbtest.CheckHistory(f.t, f.conn, "count")
}

func (f *fleet) lost() int {
	f.t.Helper()
	return one[int](f, `SELECT count(*) FROM bbm.batched_background_migration_job_transition_logs
		WHERE previous_status = 'running' AND next_status = 'pending' AND exception_class = 'RunnerLost'`)
}

func TestManyRunnersShareOneSlot(t *testing.T) {
	t.Parallel()
	for _, runners := range []int{2, 5} {
		t.Run(fmt.Sprint(runners, " runners"), func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, dbtest.New(t), 3000, 1, "--batch-size", "50", "--sub-batch-size", "10", "--parallelism", "5")
			watcher := dbtest.Connect(t, f.url)
			ctx, cancel := context.WithCancel(t.Context())
			worst := make(chan int, 1)
			go func() { worst <- mostAtOnce(ctx, watcher) }()
			var processes []*process
			for range runners {
				processes = append(processes, f.start("--until-idle"))
			}
			for _, p := range processes {
				require.NoError(t, p.wait())
			}
			cancel()
			require.LessOrEqual(t, <-worst, 1, "two jobs or two slot locks at one instant")
			f.eachOnce()
		})
	}
}

// mostAtOnce samples how many jobs run and how many slots are locked at one instant, until ctx ends.
func mostAtOnce(ctx context.Context, conn *pgx.Conn) int {
	worst := 0
	for ctx.Err() == nil {
		var jobs, locks int
		err := conn.QueryRow(ctx, `SELECT
			(SELECT count(*) FROM bbm.batched_background_migration_jobs WHERE status = 'running'),
			(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1650617601 AND granted
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`).Scan(&jobs, &locks)
		if err == nil {
			worst = max(worst, jobs, locks)
		}
	}
	return worst
}

func TestARunnerKilledTenTimesLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, dbtest.New(t), 20_000, 1, "--batch-size", "2000", "--sub-batch-size", "10")
	for kill := 1; kill <= 10; kill++ {
		p := f.start()
		before := one[int](f, `SELECT count(*) FROM public.items WHERE n = 1`)
		f.eventually(`SELECT (SELECT count(*) FROM public.items WHERE n = 1) > $1
			AND EXISTS (SELECT FROM bbm.batched_background_migration_jobs WHERE status = 'running')`, before+50)
		p.kill()
	}
	require.NoError(t, f.start("--until-idle").wait())
	f.eachOnce()
	require.GreaterOrEqual(t, f.lost(), 5, "most kills hit a job in progress")
}

func TestFourRunnersKilledTogetherAreReplacedByOne(t *testing.T) {
	t.Parallel()
	f := newFleet(t, dbtest.New(t), 20_000, 4, "--batch-size", "2500", "--sub-batch-size", "10", "--parallelism", "4")
	var processes []*process
	for range 4 {
		processes = append(processes, f.start())
	}
	f.eventually(`SELECT count(*) = 4 FROM bbm.batched_background_migration_jobs WHERE status = 'running' AND progress_key IS DISTINCT FROM after_key`)
	for _, p := range processes {
		require.NoError(t, p.cmd.Process.Signal(syscall.SIGKILL))
	}
	for _, p := range processes {
		_ = p.wait()
	}
	require.NoError(t, f.start("--until-idle").wait())
	f.eachOnce()
	require.GreaterOrEqual(t, f.lost(), 3)
}

func TestSIGTERMEndsARunnerCleanly(t *testing.T) {
	t.Parallel()
	f := newFleet(t, dbtest.New(t), 20_000, 1, "--batch-size", "20000", "--sub-batch-size", "10")
	p := f.start()
	f.eventually(`SELECT EXISTS (SELECT FROM public.items WHERE n = 1)`)
	require.NoError(t, p.stop(), "exit code 0")
	require.Equal(t, "pending", one[string](f, `SELECT status::text FROM bbm.batched_background_migration_jobs`))
	require.Zero(t, f.lost())
	require.NoError(t, f.start("--until-idle").wait())
	f.eachOnce()
}
