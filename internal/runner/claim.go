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

// endpointHold is how long a migration is held when its boundary query fails: long enough not to hammer a table that is in trouble.
const endpointHold = 30 * time.Second

// readCommitted is said explicitly: a role's default may be another.
var readCommitted = pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}

// claimedJob is a job that is ours, with what it takes to execute it.
type claimedJob struct {
	dbgen.Job
	migration  dbgen.Migration
	work       *work.Work
	statements *work.Statements
	arguments  work.Arguments
}

// claim starts a job of the migration that was claimed from least recently. ended: no job, but a migration has been finished or failed.
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
			return nil, false, fmt.Errorf("claim job of %q: %w", candidate.Name, err)
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
	var m dbgen.Migration
	err = pgx.BeginTxFunc(ctx, e.conn, readCommitted, func(tx pgx.Tx) error {
		if err := e.queries.TableLock(ctx, tx, int64(candidate.RootTableOid)); err != nil {
			return fmt.Errorf("lock table: %w", err)
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
	if err != nil {
		e.sessionOf = sessionSettings{} // the rollback has undone what setSession did
	}
	var definition *work.DefinitionError
	switch {
	case errors.As(err, &definition):
		return nil, true, e.reject(ctx, m, definition)
	case errors.Is(err, ErrJobEndpointNotFound) && !e.conn.IsClosed() && ctx.Err() == nil:
		e.log.Error("migration held", "migration", m.Name, "error", err, "for", endpointHold)
		return nil, true, e.hold(ctx, m.ID, endpointHold, err.Error())
	case err != nil:
		return nil, false, err
	}
	return claimed, ended, nil
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
	end, err := e.boundary(ctx, c.statements, work.Range{After: m.FrontierKey, Until: m.MaxKey}, int(*m.BatchSize))
	if err != nil {
		return nil, err
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
