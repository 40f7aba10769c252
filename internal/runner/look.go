package runner

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// surroundings are what one round trip tells an executor before it decides what to do.
type surroundings struct {
	left         remains
	server       dbgen.ServerCheckRow
	fleet        dbgen.FleetSettings
	runningSlots []int32           // with a running job, above the present number of slots too
	unprepared   []dbgen.Migration // without bounds, and ready to get them
	claimable    []dbgen.Migration // with something to do, least recently claimed first
}

// errNotRecorded is returned when the success of a job could not be recorded, mostly since somebody
// holds its row or its migration's.
var errNotRecorded = errors.New("the success of a job could not be recorded")

// lookAround is one look. Where the success of the job before is in its way, that job is given
// back, done as it is: a later claim finds nothing left of it, and all others go on at once.
func (e *Executor) lookAround(ctx context.Context) (surroundings, error) {
	s, err := e.look(ctx)
	if !errors.Is(err, errNotRecorded) || e.conn.IsClosed() || ctx.Err() != nil {
		return s, err
	}
	job := e.ended
	e.ended = nil // where it cannot be given back, it is found without a runner in our own slot
	job.log.Warn("the success of a job could not be recorded; it will be found done", "error", err)
	err = e.release(ctx, job, "Interrupted", "its success could not be recorded: it is done, and will be found so")
	if err := e.endure(ctx, err, "job could not be given back", "job", job.ID); err != nil {
		return s, err
	}
	return e.look(ctx)
}

// look reads the gates, the slots and the migrations, shows to status which works this runner has,
// and records the success of the job that has just ended: all in one round trip and one
// transaction.
func (e *Executor) look(ctx context.Context) (s surroundings, err error) {
	var (
		p          pipeline
		succeed    dbgen.JobSucceedParams
		offers     = dbgen.RunnerAnnounceWorksParams{Works: e.offers, AnnouncedWorks: e.announced}
		unprepared = dbgen.MigrationListUnpreparedParams{Works: e.works, WorkNames: e.names, OnlyNames: e.config.Only, SkippedIds: e.stillPostponed()}
		claimable  = e.listClaimable(nil)
	)
	asksForLocks := e.queueRenewal(&p)
	if e.ended != nil {
		succeed = e.ended.succeedParams()
		_, _ = e.queries.JobSucceed(ctx, p.queue(), succeed)
	}
	_, _ = e.queries.ServerCheck(ctx, p.queue())
	_, _ = e.queries.FleetGet(ctx, p.queue())
	_, _ = e.queries.SlotListRunning(ctx, p.queue())
	_, _ = e.queries.RunnerAnnounceWorks(ctx, p.queue(), offers)
	_, _ = e.queries.MigrationListUnprepared(ctx, p.queue(), unprepared)
	_, _ = e.queries.MigrationListClaimable(ctx, p.queue(), claimable)
	p.send(ctx, e.conn)
	ended := dbgen.JobSucceedRow{}
	defer func() {
		if closeErr := p.close(); err == nil {
			err = closeErr
		}
		if err == nil && e.ended != nil {
			e.ended.logSuccess(ended)
			e.ended = nil
		}
	}()

	if s.left, err = e.readRenewal(ctx, &p, asksForLocks); err != nil {
		return s, lost(err) // a new session is as new
	}
	if e.ended != nil {
		ended, err = e.queries.JobSucceed(ctx, p.replay(), succeed)
		if errors.Is(err, pgx.ErrNoRows) {
			return s, lost(fmt.Errorf("record success of job %d: %w", e.ended.ID, errFenced))
		}
		if err != nil {
			return s, fmt.Errorf("%w: job %d: %w", errNotRecorded, e.ended.ID, err)
		}
	}
	if s.server, err = e.queries.ServerCheck(ctx, p.replay()); err != nil {
		return s, fmt.Errorf("check server: %w", err)
	}
	if s.fleet, err = e.queries.FleetGet(ctx, p.replay()); err != nil {
		return s, fmt.Errorf("read fleet settings: %w", err)
	}
	if s.runningSlots, err = e.queries.SlotListRunning(ctx, p.replay()); err != nil {
		return s, fmt.Errorf("list running slots: %w", err)
	}
	announced, err := e.queries.RunnerAnnounceWorks(ctx, p.replay(), offers)
	if err != nil {
		return s, fmt.Errorf("announce works: %w", err)
	}
	e.noteAnnounced(announced)
	if s.unprepared, err = e.queries.MigrationListUnprepared(ctx, p.replay(), unprepared); err != nil {
		return s, fmt.Errorf("list unprepared migrations: %w", err)
	}
	if s.claimable, err = e.queries.MigrationListClaimable(ctx, p.replay(), claimable); err != nil {
		return s, fmt.Errorf("list claimable migrations: %w", err)
	}
	return s, nil
}

// announceWorks shows to status which works this runner has, before it is counted among the runners
// at all: else status would say for a moment that none of them has the work.
func (e *Executor) announceWorks(ctx context.Context) error {
	announced, err := e.queries.RunnerAnnounceWorks(ctx, e.conn, dbgen.RunnerAnnounceWorksParams{Works: e.offers, AnnouncedWorks: e.announced})
	e.noteAnnounced(announced)
	return err
}

func (e *Executor) noteAnnounced(announced []dbgen.RunnerAnnounceWorksRow) {
	for _, row := range announced {
		if row.Locked {
			e.announced = append(e.announced, row.Work)
		}
	}
}
