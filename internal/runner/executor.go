package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/session"
	"github.com/bbm-runner/bbm-runner/internal/work"
	"github.com/bbm-runner/bbm-runner/schema"
)

const (
	// The back-off while connections fail or do not last doubles from reconnectBase to reconnectLimit.
	reconnectBase  = 100 * time.Millisecond
	reconnectLimit = 10 * time.Second
	// recordTimeout is how long an ending may take to be recorded once the work has been cancelled.
	recordTimeout = 15 * time.Second
	// commitGrace is how long a statement that may commit goes on after a stop, and a sub-batch's
	// commit after that of the sub-batch.
	commitGrace = 10 * time.Second
)

// errConnectionLost is returned when the connection cannot be used any more: nothing may go on from memory.
var errConnectionLost = errors.New("connection lost")

// Executor is one goroutine's share of a runner: one connection, at most one slot, at most one job.
type Executor struct {
	runner   *Runner
	config   Config
	queries  *dbgen.Queries
	log      *slog.Logger
	identity string
	works    []string // "name:checksum" of each work
	names    []string // of each work
	offers   []string // works, "name:" of each for migrations without a pinned version, and "name:broken"

	connected
}

// connected is what an executor knows through its present connection, and forgets with it.
type connected struct {
	conn         *pgx.Conn
	slot         int32     // 0: none
	usedSlot     bool      // a job was executed in it
	isBusy       bool      // the last step found something to do
	workedAt     time.Time // when a step found something to do last
	isWell       bool      // it has been of use
	announced    []string
	pinned       pinned
	targets      map[int64]*work.Statements // by migration
	halvings     map[int64]int              // by migration: how often its batch size is halved for now
	climbs       map[int64]*climb           // by migration: what is known of the sizes of its sub-batches
	walks        map[int64]*work.PieceSize  // by migration: how much of a walk over what remains is read at once
	postponed    map[int64]postponement     // by migration
	lockWait     time.Duration              // how long a statement of the session waits for a lock
	locked       map[int64]bool             // by job: that it has lost its runner and is locked by others, of which the log tells once
	ended        *claimedJob                // done, but its success is not recorded yet
	recoveredAt  time.Time
	maintainedAt time.Time

	mayHoldLocks    bool // advisory ones that a work has left
	askedForLocksAt time.Time
}

func (r *Runner) newExecutor(number int) *Executor {
	e := &Executor{
		runner: r, config: r.config, queries: dbgen.New(), identity: identity(r.config.Version),
		log: r.config.Logger.With("worker", number), works: []string{}, names: []string{}, offers: []string{},
	}
	for _, w := range r.works.All() {
		e.works = append(e.works, w.Name+":"+w.Checksum())
		e.names = append(e.names, w.Name)
		e.offers = append(e.offers, w.Name+":"+w.Checksum(), w.Name+":")
	}
	for _, name := range r.config.BrokenWorks {
		e.offers = append(e.offers, name+":broken")
	}
	return e
}

// run connects and serves, again and again, until ctx ends or the executor is idle for good.
func (e *Executor) run(ctx, workCtx context.Context) error {
	backoff := reconnectBase
	for ctx.Err() == nil {
		e.isWell = false
		err := e.connect(ctx)
		if err == nil {
			err = e.serve(ctx, workCtx)
			e.disconnect()
		}
		if err == nil || ctx.Err() != nil {
			return nil // stopped, which is no failure
		}
		var unserved *unservedError
		isUnserved := errors.As(err, &unserved)
		if !isUnserved && !errors.Is(err, errConnectionLost) {
			return err
		}
		if e.isWell {
			backoff = reconnectBase
		}
		if isUnserved {
			e.log.Warn("waiting for a server that can be served", "reason", unserved, "in", backoff)
		} else {
			e.log.Warn("reconnecting", "error", err, "in", backoff)
		}
		sleep(ctx, jitter(backoff))
		backoff = min(2*backoff, reconnectLimit)
	}
	return nil
}

func (e *Executor) connect(ctx context.Context) error {
	conn, err := session.Connect(ctx, e.runner.connConfig, e.sessionConfig())
	if err != nil {
		return lost(err)
	}
	e.connected = connected{
		conn: conn, lockWait: e.config.LockTimeout, announced: []string{}, targets: make(map[int64]*work.Statements), halvings: make(map[int64]int),
		postponed: make(map[int64]postponement), locked: make(map[int64]bool), walks: make(map[int64]*work.PieceSize),
		climbs: make(map[int64]*climb),
	}
	return nil
}

// disconnect ends the session, and with it gives back its slot and its announcements.
func (e *Executor) disconnect() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = e.conn.Close(ctx)
}

// serve steps until ctx ends, the connection is lost or, where so configured, nothing is left to do.
func (e *Executor) serve(ctx, workCtx context.Context) error {
	announced := announcedOff
	if e.config.Enabled {
		announced = announcedOn
	}
	if err := e.checkServer(ctx); err != nil {
		return err
	}
	if err := e.announceWorks(ctx); err != nil {
		return lost(fmt.Errorf("announce works: %w", err))
	}
	// The driver prepares what is new to it before it sends a pipeline: as the role that a work may
	// have taken, which has no rights on our tables.
	if _, err := e.conn.Prepare(ctx, dbgen.JobProgress, dbgen.JobProgress); err != nil {
		return lost(fmt.Errorf("prepare progress: %w", err))
	}
	if err := e.queries.RunnerAnnounce(ctx, e.conn, announced); err != nil {
		return lost(fmt.Errorf("announce: %w", err))
	}
	if !e.config.Enabled {
		return e.standBy(ctx)
	}
	defer e.recordEnded()
	var rests patience
	for ctx.Err() == nil {
		wake := e.runner.wake.next()
		began := time.Now()
		isBusy, err := e.step(ctx, workCtx)
		e.isBusy = isBusy && err == nil
		if isReadOnly(err) {
			err = errJoin(ErrReadOnly, err)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errConnectionLost), errors.As(err, new(*unservedError)):
			return err
		case e.conn.IsClosed():
			return lost(err)
		case errors.Is(err, ErrExecutionDisabled) && e.config.UntilIdle, errors.Is(err, ErrReadOnly) && e.config.UntilIdle, errors.Is(err, schema.ErrVersion):
			return err
		case errors.Is(err, ErrReadOnly):
			if err := e.awaitWritable(ctx); err != nil {
				return err
			}
		case errors.Is(err, ErrLockInUse), errors.Is(err, ErrExecutionDisabled):
			e.log.Debug("idle", "reason", err)
		case err != nil:
			e.log.Error("step failed", "error", err)
		case isBusy:
			rests, e.workedAt = patience{}, time.Now()
			continue
		default:
			e.log.Debug("nothing to do")
		}
		var ahead *dbgen.MigrationLookAheadRow
		if isSlotless := errors.Is(err, ErrLockInUse); err == nil || isSlotless && e.config.UntilIdle {
			if ahead, err = e.lookAhead(ctx, began); err != nil {
				return err
			}
			if e.config.UntilIdle && ahead.Unsettled == 0 {
				if err := e.runner.settled(ctx, e.conn); err != nil && e.conn.IsClosed() {
					return lost(err)
				} else if err != nil {
					return err
				}
				return nil
			}
		}
		length := e.untilNextTry(rests.sleep(e.config.PollInterval, ahead, e.isWorking()))
		woken, err := e.rest(ctx, length, wake)
		if err != nil {
			return err
		}
		if woken {
			rests = patience{}
		}
	}
	return nil
}

// standBy holds the connection, so that status can tell why nothing runs.
func (e *Executor) standBy(ctx context.Context) error {
	if e.config.UntilIdle {
		return ErrParameterOff
	}
	e.log.Warn(ErrParameterOff.Error())
	for ctx.Err() == nil {
		if _, err := e.rest(ctx, e.config.PollInterval, nil); err != nil {
			return err
		}
	}
	return nil
}

// endure passes on an error that ends the session, or comes of a stop. Any other is about one slot,
// one job or one migration: it is logged, and all others go on.
func (e *Executor) endure(ctx context.Context, err error, message string, about ...any) error {
	if err == nil || e.conn.IsClosed() || ctx.Err() != nil {
		return err
	}
	e.log.With(about...).Warn(message, "error", err)
	return nil
}

// lost marks an error that leaves nothing to do but to reconnect.
func lost(err error) error {
	return fmt.Errorf("%w: %w", errConnectionLost, err)
}
