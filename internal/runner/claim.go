package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// setAsideHold is how long a migration is held when it cannot be prepared or claimed: long enough not to hammer a table that is in trouble.
const setAsideHold = 30 * time.Second

// beginReadCommitted is said explicitly: a role's default may be another. Whether it may write is
// not ours to say, see [ErrReadOnly].
const beginReadCommitted = "BEGIN ISOLATION LEVEL READ COMMITTED"

// claimedJob is a job that is ours, with what it takes to execute it.
type claimedJob struct {
	dbgen.Job
	migration  dbgen.Migration
	work       *work.Work
	statements *work.Statements
	arguments  work.Arguments
	ends       endpoints     // where its next sub-batches end
	retryIn    time.Duration // how long it waits when it is given back
	learned    *int32        // the sub-batch size that its execution has arrived at; nil: a size is fixed
	log        *slog.Logger
	// hasLeaked is set when the work has changed a setting of the session, which is said once.
	hasLeaked bool
}

// claim starts a job of the first migration that has one. Busy without a job: a migration has been
// finished, failed or held, or its proof brought forward. Where races have taken all that were
// listed, those behind them have their turn at once.
//
// Locks of others are waited for no longer than LockTimeout in all, so that no number of migrations
// that are locked keeps the others waiting for long.
func (e *Executor) claim(ctx context.Context, claimable []dbgen.Migration) (job *claimedJob, isBusy bool, err error) {
	if err := e.waitForLocks(ctx, e.config.LockTimeout); err != nil {
		return nil, false, err
	}
	var tried []int64
	for len(claimable) > 0 && !isBusy {
		for _, m := range claimable {
			if e.isPostponed(m.ID) {
				continue
			}
			job, one, err := e.claimFrom(ctx, m)
			if err != nil || job != nil {
				return job, job != nil, err
			}
			isBusy = isBusy || one
			tried = append(tried, m.ID)
		}
		claimable, err = e.queries.MigrationListClaimable(ctx, e.conn, e.listClaimable(tried))
		if err != nil {
			return nil, false, fmt.Errorf("list claimable migrations: %w", err)
		}
	}
	return nil, isBusy, nil
}

// listClaimable asks for what can be claimed, but for what was found locked or has been tried in
// this turn.
func (e *Executor) listClaimable(tried []int64) dbgen.MigrationListClaimableParams {
	return dbgen.MigrationListClaimableParams{Works: e.works, OnlyNames: e.config.Only, SkippedIds: append(e.stillPostponed(), tried...)}
}

// claimFrom claims in one transaction and two round trips: the first locks the table and the migration, starts a waiting job that is due and finds
// the end of a new one at the frontier as we have seen it; the second cuts the new job, or finishes the migration, and commits. With the end of a job those of
// its sub-batches are found.
func (e *Executor) claimFrom(ctx context.Context, m dbgen.Migration) (claimed *claimedJob, isBusy bool, err error) {
	_, isRemembered := e.targets[m.ID]
	began := time.Now()
	c, err := e.equip(ctx, m)
	if err == nil {
		claimed, isBusy, err = e.claimEquipped(ctx, c)
	}
	if rollbackErr := e.rollback(); rollbackErr != nil {
		return nil, false, errJoin(rollbackErr, err)
	}
	isContention := classify(err, failure{}) == kindContention
	if isContention {
		if err := e.waitForLocks(ctx, max(instant, e.lockWait-time.Since(began))); err != nil {
			return nil, false, err
		}
	}
	switch {
	case err == nil:
		delete(e.postponed, m.ID)
		return claimed, isBusy, nil
	case isContention && !errors.Is(err, ErrJobEndpointNotFound) && !isOfWork(err):
		// Another claim on the table, or somebody holds the migration's row: others need not wait for it.
		return nil, false, e.postpone(ctx, m, err)
	case errors.Is(err, ErrJobEndpointNotFound) && c.ID == 0 && e.cutSmaller(m, err): // not the search of a waiting job
		return nil, true, nil
	case isRemembered && isDefinition(err):
		delete(e.targets, m.ID) // the table is not what we remember: the next look tells what it is
		return nil, true, nil
	}
	return nil, true, e.setAside(ctx, m, fmt.Errorf("claim: %w", err))
}

// equip finds what it takes to execute a migration's jobs. The table is looked up once per connection.
func (e *Executor) equip(ctx context.Context, m dbgen.Migration) (*claimedJob, error) {
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
		if m.RowSet == nil { // pinned by a version of bbm-runner that did not note it
			note := dbgen.MigrationNoteRowSetParams{MigrationID: m.ID, WorkChecksum: w.Checksum(), RowSet: w.RowSet(target).Pinned()}
			if err := e.queries.MigrationNoteRowSet(ctx, e.conn, note); err != nil {
				return nil, fmt.Errorf("note rows: %w", err)
			}
		}
	}
	if err := e.setSession(ctx, w); err != nil {
		return nil, err
	}
	e.mayHoldLocks = true
	return &claimedJob{migration: m, work: w, statements: statements, arguments: arguments}, nil
}

// claimEquipped leaves a transaction open where there is nothing to commit.
func (e *Executor) claimEquipped(ctx context.Context, c *claimedJob) (claimed *claimedJob, isBusy bool, err error) {
	seen := c.migration
	locked, waiting, ends, err := e.lockForClaim(ctx, c)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, false, nil
	}
	if isLocked := locked.Migration.ID != 0; err != nil && (!isLocked || locked.IsTarget) {
		return nil, false, err
	}
	c.migration = locked.Migration
	if !locked.IsTarget { // whatever else is wrong
		return nil, false, &work.DefinitionError{
			Code:    dbgen.BBMMigrationFailureCodeInvalidTable,
			Message: c.migration.TableName + " is not the table that the migration was enqueued for: it was renamed, dropped or made again; cancel this one and enqueue again",
		}
	}
	if waiting != nil {
		c.Job = *waiting
		switch {
		case c.IsSingleRow:
			c.statements = c.statements.SingleRow()
		case c.Pass > 0 && c.statements.ForPasses() != nil:
			c.statements = c.statements.ForPasses()
		}
		return c, true, e.commitClaim(ctx, c, false)
	}
	if ends.ahead != nil && locked.IsDue && locked.RunningJobs < int64(c.migration.Parallelism) {
		if !sameKey(seen.FrontierKey, c.migration.FrontierKey) {
			return nil, true, nil // another has cut in the meantime: look again
		}
		c.ends = ends
		return c, true, e.commitClaim(ctx, c, true)
	}
	if c.migration.RemainingPredicate != nil && c.migration.VerifiedAt == nil && c.statements.ForPasses() != nil {
		isBusy, err = e.prove(ctx, c)
		return nil, isBusy, err
	}
	isBusy, err = e.finish(ctx, c.migration)
	return nil, isBusy, err
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

// finish ends a migration of which nothing is left, and that asks for no walk, and commits; it
// reports whether that was so.
func (e *Executor) finish(ctx context.Context, m dbgen.Migration) (isFinished bool, err error) {
	finished, err := e.queries.MigrationFinish(ctx, e.conn, dbgen.MigrationFinishParams{MigrationID: m.ID, ChangedBy: e.identity})
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err == nil {
		_, err = e.conn.Exec(ctx, "COMMIT")
	}
	if err != nil {
		return false, fmt.Errorf("finish migration: %w", err)
	}
	logFinished(e.log.With("migration", m.Name), finished.VerifiedAt, finished.QuarantinedRows)
	return true, nil
}

// logFinished tells what a finished migration rests on; provedAt is nil for one that asks for no
// proof.
func logFinished(log *slog.Logger, provedAt *time.Time, leftOut int64) {
	message := "migration finished"
	if provedAt != nil {
		message, log = message+": no row remains", log.With("proved_at", *provedAt)
	}
	switch {
	case leftOut > 0 && provedAt != nil:
		message += " but those in quarantine"
	case leftOut > 0:
		message += ": rows are left out"
	}
	if leftOut > 0 {
		log = log.With("quarantined_rows", leftOut)
	}
	log.Info(message)
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
