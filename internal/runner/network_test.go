package runner_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/runner"
)

// through is the same world by way of a proxy, and a runner's configuration that notices soon.
func (w *world) through(p *dbtest.Proxy) (*world, runner.Config) {
	w.t.Helper()
	far := *w
	far.url = p.URL()
	config := w.daemon()
	// Not sooner: a machine that is busy with other tests would be taken for one that is lost.
	config.StatementTimeout = time.Second
	config.IdleTimeout = 3 * time.Second
	return &far, config
}

// cuts are the ways in which a network fails. What was open stays as it is when the network heals, but for what a stall held back.
var cuts = map[string]func(*dbtest.Proxy){
	"nothing passes":               func(p *dbtest.Proxy) { p.Stall() },
	"the way to the server stalls": func(p *dbtest.Proxy) { p.Stall(dbtest.ToServer) },
	"the way to the client stalls": func(p *dbtest.Proxy) { p.Stall(dbtest.ToClient) },
	"everything is swallowed":      func(p *dbtest.Proxy) { p.Swallow() },
	"requests are swallowed":       func(p *dbtest.Proxy) { p.Swallow(dbtest.ToServer) },
	"answers are swallowed":        func(p *dbtest.Proxy) { p.Swallow(dbtest.ToClient) },
	"both ends are reset":          func(p *dbtest.Proxy) { p.Reset() },
	"the client alone is reset":    func(p *dbtest.Proxy) { p.Swallow(dbtest.ToServer); p.Reset(dbtest.ToClient) },
	"the server alone is reset":    func(p *dbtest.Proxy) { p.Swallow(dbtest.ToClient); p.Reset(dbtest.ToServer) },
}

// The tags by which a server answers tell the instant: that of the work's statement, with the transaction open, and that of a commit.
const (
	workAnswered = "UPDATE 10\x00"
	committed    = "COMMIT\x00"
)

// lane is a runner behind a proxy of its own, with a table and a migration of its own: such tests mostly wait, so they all wait at once.
type lane struct {
	*world
	name   string
	proxy  *dbtest.Proxy
	kind   func(*dbtest.Proxy)
	logged int // bytes, before the cut
	stop   func() error
}

func (l *lane) cut() {
	// First: a reset is noticed at once.
	l.logged = len(l.log.String())
	l.kind(l.proxy)
}

// lanes prepares one for each kind of cut.
func (w *world) lanes(suffix string) []*lane {
	w.t.Helper()
	var lanes []*lane
	for name, kind := range cuts {
		p := dbtest.NewProxy(w.t, w.url)
		far, _ := w.through(p)
		far.log = &syncBuffer{}
		l := &lane{world: far, name: strings.ReplaceAll(name, " ", "_") + suffix, proxy: p, kind: kind}
		w.t.Cleanup(func() {
			if w.t.Failed() {
				w.t.Logf("%s:\n%s", l.name, far.log)
			}
		})
		w.exec(`CREATE TABLE public.` + l.name + ` (LIKE public.items INCLUDING ALL); INSERT INTO public.` + l.name + ` SELECT * FROM public.items`)
		w.enqueue(l.name, "public."+l.name, 100, 10)
		lanes = append(lanes, l)
	}
	w.exec(`UPDATE bbm.fleet_settings SET slots = 50`)
	// A work that is kept waiting runs out of time, which on a slow machine happens often.
	w.exec(`UPDATE bbm.batched_background_migrations SET max_attempts = 1000`)
	return lanes
}

func (l *lane) start(source string, lockTimeout time.Duration) {
	l.t.Helper()
	_, config := l.through(l.proxy)
	config.LockTimeout = lockTimeout
	l.stop = l.world.start(l.runner(config, parse(l.t, l.name, strings.ReplaceAll(source, "public.items", "public."+l.name))))
}

// heal ends the cuts as soon as they were noticed.
func heal(lanes []*lane) {
	for _, l := range lanes {
		l.t.Helper()
		require.Eventually(l.t, func() bool { return strings.Contains(l.log.String()[l.logged:], "reconnecting") }, 30*time.Second, time.Millisecond, l.name)
		l.proxy.Heal()
	}
}

// ends proves the outcome.
func (l *lane) ends() {
	l.t.Helper()
	l.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations WHERE name = $1`, l.name)
	require.NoError(l.t, l.stop(), l.name)
	require.Zero(l.t, one[int](l.world, `SELECT count(*) FROM public.`+l.name+` WHERE n <> 1`), "%s: rows not changed exactly once", l.name)
	require.NotZero(l.t, one[int](l.world, `SELECT count(*) FROM bbm.batched_background_migration_job_transition_logs AS l
		JOIN bbm.batched_background_migration_jobs AS j ON j.id = l.batched_background_migration_job_id
		JOIN bbm.batched_background_migrations AS m ON m.id = j.batched_background_migration_id
		WHERE m.name = $1 AND l.exception_class = 'RunnerLost'`, l.name), "%s: a job was interrupted", l.name)
	dbtest.CheckHistory(l.t, l.conn, l.name)
}

func TestANetworkThatIsCutLosesAndRepeatsNothing(t *testing.T) {
	w := setup(t, 200)
	before, after := w.lanes("_before_a_commit"), w.lanes("_after_a_commit")
	var cut sync.WaitGroup
	lanes := slices.Concat(before, after)
	for _, l := range lanes {
		cut.Add(1)
		now := func() { l.cut(); cut.Done() }
		// In the middle of the first job.
		if slices.Contains(before, l) {
			l.proxy.At(dbtest.ToClient, workAnswered, 5, now)
		} else {
			l.proxy.At(dbtest.ToClient, workAnswered, 5, func() { l.proxy.At(dbtest.ToClient, committed, 1, now) })
		}
		l.start(increment, time.Second)
	}
	cut.Wait()
	heal(lanes)
	for _, l := range lanes {
		l.ends()
	}
}

func TestAWorkThatIsCutOffInTheMiddleIsRolledBackAndDoneAgain(t *testing.T) {
	w := setup(t, 100)
	unblock := w.block()
	lanes := w.lanes("_in_a_work")
	const waiter = `SELECT a.pid FROM pg_stat_activity AS a JOIN pg_locks AS l ON l.pid = a.pid
		WHERE l.locktype = 'advisory' AND l.objid = 50 AND NOT l.granted AND a.datname = current_database()`
	var first []int32
	for _, l := range lanes {
		l.start(blocking, time.Minute)
		var pid int32
		require.Eventually(t, func() bool {
			return w.conn.QueryRow(w.ctx, waiter+` AND strpos(a.query, $1) > 0`, "public."+l.name+" ").Scan(&pid) == nil
		}, 30*time.Second, time.Millisecond, l.name)
		l.cut()
		first = append(first, pid)
	}
	w.eventually(`SELECT NOT EXISTS (`+waiter+` AND a.pid = ANY ($1::int[]))`, first)
	unblock()
	heal(lanes)
	for _, l := range lanes {
		l.ends()
	}
}

func TestANetworkThatIsCutAgainAndAgainAtRandomLosesAndRepeatsNothing(t *testing.T) {
	seed := rand.Uint64()
	choose := rand.New(rand.NewPCG(seed, 0))
	w := setup(t, 2000)
	t.Logf("seed %d", seed)
	p := dbtest.NewProxy(t, w.url)
	far, config := w.through(p)
	config.Workers = 2
	w.exec(`UPDATE bbm.fleet_settings SET slots = 2`)
	w.enqueue("count", "public.items", 100, 10)
	w.exec(`UPDATE bbm.batched_background_migrations SET parallelism = 2`)
	kinds := slices.Sorted(maps.Keys(cuts))
	stop := far.start(far.runner(config, parse(t, "count", increment)))
	for range 4 {
		cut := cuts[kinds[choose.IntN(len(kinds))]]
		text := []string{workAnswered, committed}[choose.IntN(2)]
		reconnected := strings.Count(w.log.String(), "reconnecting")
		<-p.At(dbtest.ToClient, text, 1+choose.IntN(20), func() { cut(p) })
		require.Eventually(t, func() bool { return strings.Count(w.log.String(), "reconnecting") > reconnected }, 30*time.Second, time.Millisecond)
		p.Heal()
	}
	w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
	require.NoError(t, stop())
	w.eachOnce("count")
}
