package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// setAsideHold is how long a migration is held when it cannot be prepared or claimed: long enough not to hammer a table that is in trouble.
const setAsideHold = 30 * time.Second

// errTableBusy is returned when another claim on the table does not end within the lock timeout.
var errTableBusy = errors.New("another claim on the table is in progress")

// readCommitted is said explicitly: a role's default may be another.
var readCommitted = pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}

// claimedJob is a job that is ours, with what it takes to execute it.
type claimedJob struct {
	dbgen.Job
	migration  dbgen.Migration
	work       *work.Work
	statements *work.Statements
	arguments  work.Arguments
	learned    *int32 // the sub-batch size that its execution has arrived at; nil: a size is fixed
}

// claim starts a job of the migration that was claimed from least recently. ended: no job, but a migration has been finished, failed or held.
func (e *Executor) claim(ctx context.Context) (job *claimedJob, ended bool, err error) {
	candidates, err := e.queries.MigrationListClaimable(ctx, e.conn, dbgen.MigrationListClaimableParams{
		Works: e.works, OnlyNames: e.config.Only,
	})
	if err != nil {
		return nil, false, fmt.Errorf("list claimable migrations: %w", err)
	}
	for _, candidate := range candidates {
		job, one, err := e.claimFrom(ctx, candidate)
		if err != nil {
			return nil, false, err
		}
		if job != nil {
			return job, false, nil
		}
		ended = ended || one
	}
	return nil, ended, nil
}

// claimFrom claims under the lock of the migration's table, so that two runners that claim in the same instant cannot both find it free.
func (e *Executor) claimFrom(ctx context.Context, candidate dbgen.MigrationListClaimableRow) (claimed *claimedJob, ended bool, err error) {
	m := dbgen.Migration{ID: candidate.ID, Name: candidate.Name}
	err = pgx.BeginTxFunc(ctx, e.conn, readCommitted, func(tx pgx.Tx) error {
		if err := e.queries.TableLock(ctx, tx, int64(candidate.RootTableOid)); err != nil {
			return fmt.Errorf("%w: %w", errTableBusy, err)
		}
		locked, err := e.queries.MigrationLockClaimable(ctx, tx, dbgen.MigrationLockClaimableParams{MigrationID: candidate.ID})
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("lock migration: %w", err)
		}
		m = locked.Migration
		claimed, err = e.equip(ctx, tx, m)
		if err != nil {
			return err
		}
		var job *dbgen.Job
		if locked.IsDue && locked.RunningJobs < int64(m.Parallelism) {
			if job, err = e.startJob(ctx, tx, claimed); err != nil {
				return err
			}
		}
		if job == nil {
			claimed = nil
			ended, err = e.finish(ctx, tx, m)
			return err
		}
		claimed.Job = *job
		if m.Status == dbgen.BBMMigrationStatusActive {
			if _, err := e.queries.MigrationStart(ctx, tx, dbgen.MigrationStartParams{MigrationID: m.ID, ChangedBy: e.identity}); err != nil {
				return fmt.Errorf("start migration: %w", err)
			}
		}
		return nil
	})
	if err == nil {
		return claimed, ended, nil
	}
	e.sessionOf = sessionSettings{} // the rollback has undone what setSession did
	switch {
	case errors.Is(err, errTableBusy) && classify(err, failure{}) == kindContention:
		return nil, false, nil
	case errors.Is(err, ErrJobEndpointNotFound) && e.cutSmaller(m, err):
		return nil, true, nil
	}
	return nil, true, e.setAside(ctx, m, fmt.Errorf("claim: %w", err))
}

// equip finds what it takes to execute a migration's jobs. The table is looked up once per connection.
func (e *Executor) equip(ctx context.Context, tx pgx.Tx, m dbgen.Migration) (*claimedJob, error) {
	w, _ := e.runner.works.Get(m.WorkName)
	arguments, err := work.ReadArguments(m.Arguments)
	if err != nil {
		return nil, err
	}
	statements, known := e.targets[m.ID]
	if !known {
		target, err := e.resolve(ctx, w, m)
		if err != nil {
			return nil, err
		}
		statements = work.NewStatements(w, target)
		e.targets[m.ID] = statements
	}
	if err := e.setSession(ctx, tx, w); err != nil {
		return nil, err
	}
	return &claimedJob{migration: m, work: w, statements: statements, arguments: arguments}, nil
}

// startJob starts a waiting job that is due, else cuts a new one at the frontier; nil when there is neither.
func (e *Executor) startJob(ctx context.Context, tx pgx.Tx, c *claimedJob) (*dbgen.Job, error) {
	m := c.migration
	waiting, err := e.queries.JobClaim(ctx, tx, dbgen.JobClaimParams{MigrationID: m.ID, Slot: e.slot, Runner: e.identity})
	if err == nil {
		job := dbgen.Job(waiting)
		return &job, nil
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("start waiting job: %w", err)
	}
	if slices.Equal(m.FrontierKey, m.MaxKey) {
		return nil, nil
	}
	end, err := e.boundary(ctx, c.statements, work.Range{After: m.FrontierKey, Until: m.MaxKey}, max(1, int(*m.BatchSize>>e.halvings[m.ID])))
	if err != nil {
		return nil, err
	}
	if e.halvings[m.ID] > 0 {
		e.halvings[m.ID]--
	}
	cut, err := e.queries.JobCut(ctx, tx, dbgen.JobCutParams{
		MigrationID: m.ID, AfterKey: m.FrontierKey, UntilKey: end.key, Slot: e.slot, Runner: e.identity,
	})
	if err != nil {
		return nil, fmt.Errorf("cut job: %w", err)
	}
	job := dbgen.Job(cut)
	return &job, nil
}

// cutSmaller halves the jobs to be cut of a migration whose boundary query takes too long, so that it comes to an end. It reports whether that is
// what happened and a smaller job is possible.
func (e *Executor) cutSmaller(m dbgen.Migration, err error) bool {
	if classify(err, failure{}) != kindCancelled || m.BatchSize == nil || *m.BatchSize>>e.halvings[m.ID] <= 1 {
		return false
	}
	e.halvings[m.ID]++
	e.log.Warn("the end of a job was not found in time; smaller jobs are cut", "migration", m.Name, "rows", *m.BatchSize>>e.halvings[m.ID], "error", err)
	return true
}

// finish ends a migration of which nothing is left; false when something is.
func (e *Executor) finish(ctx context.Context, tx pgx.Tx, m dbgen.Migration) (bool, error) {
	_, err := e.queries.MigrationFinish(ctx, tx, dbgen.MigrationFinishParams{MigrationID: m.ID, ChangedBy: e.identity})
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("finish migration: %w", err)
	}
	e.log.Info("migration finished", "migration", m.Name)
	return true, nil
}

func (e *Executor) hold(ctx context.Context, migrationID int64, length time.Duration, reason string) error {
	err := e.queries.MigrationHold(ctx, e.conn, dbgen.MigrationHoldParams{
		MigrationID: migrationID, HoldFor: length, HoldReason: printable(reason),
	})
	if err != nil {
		return fmt.Errorf("hold migration: %w", err)
	}
	return nil
}
