package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/localpg"
)

// settings are what a round is played with. The seed decides all choices; how far things have come when they happen, it does not.
type settings struct {
	seed     uint64
	dir      string // of its evidence
	program  program
	binDir   string        // of PostgreSQL
	hardship time.Duration // how long the disturbances last
	acts     int           // the most of them; 0: no limit
	rows     int           // of each table at its beginning
	turns    int           // the most migrations of each table, up to maxTurns
	deadline time.Duration // for all migrations to end, after the disturbances
}

// round is one server, a fleet of runners, tables with an application and migrations on them, and what befalls them.
type round struct {
	settings
	counters
	kinds      []kind
	atOnce     int // migrations that should be on their way
	clients    int // of the application, for each table
	pace       int // milliseconds, the most between two acts
	server     *localpg.Server
	url, works string
	units      []*unit
	ledgers    map[string]*ledger
	timeline   *os.File
	isHard     atomic.Bool // disturbances go on
	delayed    sync.WaitGroup

	mutex      sync.Mutex // of what is below
	migrations []*migration
	complaints []string
}

func newRound(s settings) *round { return &round{settings: s, ledgers: make(map[string]*ledger)} }

// generator is the source of choices for one purpose: each has its own, so that they do not depend on one another's pace.
func (r *round) generator(purpose uint64) *rand.Rand { return rand.New(rand.NewPCG(r.seed, purpose)) }

// Purposes of generators; acts and the application's clients count up from theirs.
const (
	forShape   = 1
	forEnqueue = 2
	forPace    = 3
	forActs    = 1 << 20
	forClients = 1 << 40
)

// play runs the round and returns what is wrong; nothing when all is well. ctx ends it early.
func (r *round) play(ctx context.Context) []string {
	defer r.close()
	if err := r.setUp(ctx); err != nil {
		return r.complain(&r.other, "the round could not be set up: %s", err)
	}
	r.rounds = 1
	end := r.begin(ctx)
	r.torment(ctx)
	r.heal(ctx)
	r.awaitEnds(ctx)
	r.mend(ctx)
	r.awaitEnds(ctx)
	end()
	if ctx.Err() == nil {
		r.check(ctx)
	}
	return r.complaints
}

// close ends what setUp has started; the evidence stays.
func (r *round) close() {
	for _, u := range r.units {
		u.proxy.Close()
	}
	if r.server != nil {
		_ = r.server.Stop()
	}
	if r.timeline != nil {
		_ = r.timeline.Close()
	}
}

// begin starts the runners and the application, until end is called.
func (r *round) begin(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	var runners, clients sync.WaitGroup
	clientsCtx, stopClients := context.WithCancel(context.WithoutCancel(ctx))
	for _, u := range r.units {
		runners.Go(func() { u.keep(ctx) })
	}
	for n, a := range r.applications() {
		a.rng = r.generator(forClients + uint64(n))
		clients.Go(func() { a.use(clientsCtx) })
	}
	return func() {
		cancel()
		runners.Wait()
		stopClients() // last: runners end while the tables are in use
		clients.Wait()
	}
}

// setUp draws the round's shape, and makes its server, tables and files.
func (r *round) setUp(ctx context.Context) (err error) {
	shape := r.generator(forShape)
	for _, n := range shape.Perm(len(kinds))[:1+shape.IntN(3)] {
		r.kinds = append(r.kinds, kinds[n])
	}
	r.atOnce, r.clients = 1+shape.IntN(3), 1+shape.IntN(2)
	slots, runners := 1+shape.IntN(4), 1+shape.IntN(4)
	r.pace = 100 + shape.IntN(700)

	r.works = filepath.Join(r.dir, "works")
	if err := os.MkdirAll(r.works, 0o755); err != nil {
		return err
	}
	if r.timeline, err = os.Create(filepath.Join(r.dir, "timeline.log")); err != nil {
		return err
	}
	r.server, err = localpg.Start(ctx, localpg.Options{BinDir: r.binDir, Kept: filepath.Join(r.dir, "postgres"), Settings: map[string]string{
		"shared_buffers": "16MB", "max_connections": "100", "log_line_prefix": "%m [%p] %a ",
		"wal_writer_delay": "1s", // a crash loses more of what was committed asynchronously
	}})
	if err != nil {
		return err
	}
	r.url = r.server.URL("postgres")
	if err := r.makeTables(ctx); err != nil {
		return err
	}
	for _, args := range [][]string{{"schema", "up"}, {"enable"}, {"set", "--fleet", "slots=" + strconv.Itoa(slots)}} {
		if code, output, err := r.program.call(ctx, r.url, r.works, args...); err != nil || code != 0 {
			return fmt.Errorf("bbm-runner %s: exit code %d, %w: %s", named(args), code, err, output)
		}
	}
	for n := range runners {
		u, err := r.newUnit(n, 1+shape.IntN(2))
		if err != nil {
			return err
		}
		r.units = append(r.units, u)
		r.tell("runner %d has %d workers", n, u.workers)
	}
	r.tell("seed %d: %d tables, %d migrations at once, %d slots", r.seed, len(r.kinds), r.atOnce, slots)
	return nil
}

func (r *round) makeTables(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, r.url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	statements := []string{`CREATE SCHEMA app`, stumble, refuse}
	for _, k := range r.kinds {
		statements = append(statements, k.create()...)
		for name := range works {
			if err := os.WriteFile(filepath.Join(r.works, k.name+"_"+name+".sql"), []byte(k.workFile(name)), 0o644); err != nil {
				return err
			}
		}
	}
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	for _, k := range r.kinds {
		if _, err := conn.Exec(ctx, k.fill(), r.rows); err != nil {
			return err
		}
		r.ledgers[k.name] = newLedger(r.rows)
	}
	_, err = conn.Exec(ctx, `ANALYZE`)
	return err
}

func (r *round) applications() (all []*application) {
	for _, k := range r.kinds {
		for range r.clients {
			all = append(all, &application{url: r.url, kind: k, rows: r.rows, ledger: r.ledgers[k.name], isOld: r.isHard.Load})
		}
	}
	return all
}

// torment makes one act after another, and sees to it that there are always migrations to torment.
func (r *round) torment(ctx context.Context) {
	r.isHard.Store(true)
	hardCtx, cancel := context.WithTimeout(ctx, r.hardship)
	defer cancel()
	enqueues, pace := r.generator(forEnqueue), r.generator(forPace)
	for n := uint64(0); hardCtx.Err() == nil && (r.acts == 0 || n < uint64(r.acts)); n++ {
		r.replenish(ctx, enqueues)
		r.hurry(ctx)
		rng := r.generator(forActs + n)
		a := drawAct(rng)
		if a.do(ctx, r, rng) {
			r.count(a.name)
			r.tell("act %d: %s", n, a.name)
		} else {
			r.tell("act %d: %s could not be done", n, a.name)
		}
		pause(hardCtx, milliseconds(pace, 0, r.pace))
	}
	r.delayed.Wait()
}

// later does something after a while, before the disturbances are over.
func (r *round) later(ctx context.Context, d time.Duration, do func()) {
	r.delayed.Go(func() {
		pause(ctx, d)
		do()
	})
}

// unit draws one of the runners.
func (r *round) unit(rng *rand.Rand) *unit { return r.units[rng.IntN(len(r.units))] }

// signal sends a signal to a runner, the next where one is not there.
func (r *round) signal(rng *rand.Rand, s syscall.Signal) bool {
	first := rng.IntN(len(r.units))
	for n := range r.units {
		if r.units[(first+n)%len(r.units)].signal(s) {
			return true
		}
	}
	return false
}

// discard removes the evidence.
func (r *round) discard() error { return os.RemoveAll(r.dir) }
