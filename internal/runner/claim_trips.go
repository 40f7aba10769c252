package runner

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/session"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// lockForClaim is the first round trip. Its error is [pgx.ErrNoRows] when the migration may not be claimed from (any more).
func (e *Executor) lockForClaim(
	ctx context.Context, c *claimedJob,
) (locked dbgen.MigrationLockClaimableRow, waiting *dbgen.Job, ends endpoints, err error) {
	var (
		m     = c.migration
		p     pipeline
		lock  = dbgen.MigrationLockClaimableParams{MigrationID: m.ID, WorkChecksum: c.work.Checksum()}
		claim = dbgen.JobClaimParams{MigrationID: m.ID, Slot: e.slot, Runner: e.identity}
		rest  = work.Range{After: m.FrontierKey, Until: m.MaxKey}
		total = max(1, int(*m.BatchSize>>e.halvings[m.ID]))
		piece = max(newSizer(m).rows(), (total+mostPieces-1)/mostPieces)
		isCut = sameKey(m.FrontierKey, m.MaxKey)
		// A search that failed must not keep a waiting job from its start again.
		isApart = wasHeldForEndpoint(m)
	)
	p.batch.Queue(beginReadCommitted)
	_, _ = e.queries.SessionName(ctx, p.queue(), e.applicationName(m.Name))
	_ = e.queries.TableLock(ctx, p.queue(), int64(m.RootTableOid))
	_, _ = e.queries.MigrationLockClaimable(ctx, p.queue(), lock)
	_, _ = e.queries.JobClaim(ctx, p.queue(), claim)
	if !isCut && !isApart {
		p.queueBoundary(c.statements, rest, piece, total)
	}
	p.send(session.Cancellable(ctx), e.conn)
	defer func() {
		if closeErr := p.close(); err == nil && closeErr != nil {
			// All else has been read: what fails behind a job that was started is the search for the end of another.
			err = fmt.Errorf("%w: %w", ErrJobEndpointNotFound, closeErr)
		}
	}()

	if _, err := p.results.Exec(); err != nil {
		// BEGIN itself does not fail: what does is the preparation, before it, of the one statement about the user's table.
		return locked, nil, ends, fmt.Errorf("%w: %w", ErrJobEndpointNotFound, err)
	}
	if _, err := e.queries.SessionName(ctx, p.replay(), ""); err != nil {
		return locked, nil, ends, fmt.Errorf("name session: %w", err)
	}
	if err := e.queries.TableLock(ctx, p.replay(), int64(m.RootTableOid)); err != nil {
		return locked, nil, ends, fmt.Errorf("lock table: %w", err)
	}
	if locked, err = e.queries.MigrationLockClaimable(ctx, p.replay(), lock); err != nil {
		return locked, nil, ends, fmt.Errorf("lock migration: %w", err)
	}
	started, err := e.queries.JobClaim(ctx, p.replay(), claim)
	if err == nil {
		job := dbgen.Job(started)
		return locked, &job, ends, nil
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return locked, nil, ends, fmt.Errorf("start waiting job: %w", err)
	}
	if isCut {
		return locked, nil, ends, nil
	}
	if isApart {
		if err := p.close(); err != nil {
			return locked, nil, ends, err
		}
		ends, err = e.boundaryWithin(ctx, c.statements, rest, piece, total)
		return locked, nil, ends, err
	}
	ends, err = p.readBoundary(rest, total)
	return locked, nil, ends, err
}

// commitClaim is the second round trip: it cuts a new job of the ends that were found, or finds those of a waiting one's sub-batches, and commits.
func (e *Executor) commitClaim(ctx context.Context, c *claimedJob, isNew bool) (err error) {
	var (
		m     = c.migration
		p     pipeline
		cut   dbgen.JobCutParams
		start = dbgen.MigrationStartParams{MigrationID: m.ID, ChangedBy: e.identity}
		size  = newSizer(m).rows()
		total = min(int(*m.BatchSize), size*mostPieces)
	)
	rest := work.Range{After: c.ProgressKey, Until: c.UntilKey}
	if isNew {
		rest = work.Range{After: m.FrontierKey, Until: c.ends.last()}
		cut = dbgen.JobCutParams{MigrationID: m.ID, AfterKey: rest.After, UntilKey: rest.Until, Slot: e.slot, Runner: e.identity}
		_, _ = e.queries.JobCut(ctx, p.queue(), cut)
	}
	isStart := m.Status == dbgen.BBMMigrationStatusActive
	if isStart {
		_, _ = e.queries.MigrationStart(ctx, p.queue(), start)
	}
	// What is not looked up here the execution looks up, and then it is the job that fails.
	isSought := !isNew && !sameKey(rest.After, rest.Until) && c.Stalls == 0 && !wasHeldForEndpoint(m)
	if isSought {
		p.queueBoundary(c.statements, rest, size, total)
	}
	p.batch.Queue("COMMIT")
	p.send(ctx, e.conn)
	defer func() {
		if closeErr := p.close(); err == nil {
			err = closeErr
		}
	}()

	if isNew {
		job, err := e.queries.JobCut(ctx, p.replay(), cut)
		if err != nil {
			return fmt.Errorf("cut job: %w", err)
		}
		c.Job = dbgen.Job(job)
		if total < int(*m.BatchSize) {
			c.ends = endpoints{} // larger than its sub-batches, see mostPieces
		}
		e.halvings[m.ID] = max(0, e.halvings[m.ID]-1)
	}
	if isStart {
		if _, err := e.queries.MigrationStart(ctx, p.replay(), start); err != nil {
			return fmt.Errorf("start migration: %w", err)
		}
	}
	if isSought {
		if c.ends, err = p.readBoundary(rest, total); err != nil {
			return err
		}
	}
	if _, err := p.results.Exec(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// wasHeldForEndpoint tells whether the last hold of a migration was for a boundary query that failed in a claim.
func wasHeldForEndpoint(m dbgen.Migration) bool {
	return m.HoldReason != nil && strings.HasPrefix(*m.HoldReason, ErrJobEndpointNotFound.Error())
}
