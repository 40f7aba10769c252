package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/control"
	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/session"
)

// cycle runs the statements of the runner's cycle on the heavy migration of one database, in the runner's own kind of session.
type cycle struct {
	conn      *pgx.Conn
	queries   *dbgen.Queries
	migration dbgen.Migration
	works     []string
	job       dbgen.Job
}

const (
	slot     = 1
	identity = "bench-scale"
)

// The cycle's clock stands in the last month of the seeded history, so that log rows go where 5 million are. Before all of it nothing that
// waits is due.
var (
	lately = time.Date(2001, 6, 28, 0, 0, 0, 0, time.UTC)
	before = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
)

// openCycle connects and takes a slot, whose lock JobProgress looks for.
func openCycle(ctx context.Context, url, migration string) (*cycle, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	conn, err := session.Connect(ctx, config, session.Config{})
	if err != nil {
		return nil, err
	}
	c := &cycle{conn: conn, queries: dbgen.New()}
	for _, sql := range []string{
		// What earlier runs have left in the indexes is not to count.
		"VACUUM (INDEX_CLEANUP ON) bbm.batched_background_migration_jobs",
		// JobProgress proves that the target is still the one that was enqueued.
		"CREATE TABLE IF NOT EXISTS public.bench_target (id bigint PRIMARY KEY)",
		"UPDATE bbm.batched_background_migrations SET table_name = 'public.bench_target', table_oid = 'public.bench_target'::regclass" +
			" WHERE name = '" + migration + "'",
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", sql, err), conn.Close(ctx))
		}
	}
	if _, err := c.queries.SlotTryLock(ctx, conn, slot); err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	m, err := c.queries.MigrationGet(ctx, conn, migration)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read migration %s: %w", migration, err), conn.Close(ctx))
	}
	c.migration, c.works = m, []string{m.WorkName + ":" + *m.WorkChecksum}
	return c, nil
}

// operation is what is measured: with its transaction, as a runner sends it.
type operation struct {
	name string
	do   func(c *cycle, ctx context.Context, db dbgen.DBTX) error
	end  ending
}

// ending is how an operation ends.
type ending int

const (
	commits   ending = iota
	isSingle         // one statement, which commits itself
	rollsBack        // so that the database stays as it was
)

// operations leave one more succeeded job behind. What waits stays as it is: to consume it would make a difference between a database where few
// jobs wait and one where thousands do.
var operations = []operation{
	{"claim: look for a migration", (*cycle).list, isSingle},
	{"claim: cut a new job", (*cycle).cut, commits},
	{"progress: fence and progress of a sub-batch", (*cycle).progress, commits},
	{"record: fail (rolled back)", (*cycle).fail, rollsBack},
	{"record: succeed", (*cycle).succeed, isSingle},
	{"claim: start a waiting job (rolled back)", (*cycle).start, rollsBack},
}

func (c *cycle) list(ctx context.Context, db dbgen.DBTX) error {
	found, err := c.queries.MigrationListClaimable(ctx, db, dbgen.MigrationListClaimableParams{Works: c.works, OnlyNames: []string{}, SkippedIds: []int64{}, Now: &lately})
	if err == nil && len(found) == 0 {
		return errors.New("the heavy migration is not claimable")
	}
	return err
}

// lock is what both kinds of claim begin with.
func (c *cycle) lock(ctx context.Context, db dbgen.DBTX) error {
	if err := c.queries.TableLock(ctx, db, int64(c.migration.RootTableOid)); err != nil {
		return err
	}
	locked, err := c.queries.MigrationLockClaimable(ctx, db, dbgen.MigrationLockClaimableParams{
		MigrationID: c.migration.ID, WorkChecksum: *c.migration.WorkChecksum, Now: &lately,
	})
	c.migration = locked.Migration
	return err
}

func (c *cycle) cut(ctx context.Context, db dbgen.DBTX) error {
	if err := c.lock(ctx, db); err != nil {
		return err
	}
	_, err := c.queries.JobClaim(ctx, db, dbgen.JobClaimParams{MigrationID: c.migration.ID, Slot: slot, Runner: identity, Now: &before})
	if !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("a job was due in the year 2000: %w", err)
	}
	frontier, err := strconv.ParseInt(c.migration.FrontierKey[0], 10, 64)
	if err != nil {
		return err
	}
	row, err := c.queries.JobCut(ctx, db, dbgen.JobCutParams{
		MigrationID: c.migration.ID, AfterKey: c.migration.FrontierKey, UntilKey: []string{strconv.FormatInt(frontier+1, 10)}, Slot: slot, Runner: identity,
		Now: &lately,
	})
	c.job = dbgen.Job(row)
	return err
}

func (c *cycle) start(ctx context.Context, db dbgen.DBTX) error {
	if err := c.lock(ctx, db); err != nil {
		return err
	}
	_, err := c.queries.JobClaim(ctx, db, dbgen.JobClaimParams{MigrationID: c.migration.ID, Slot: slot, Runner: identity, Now: &lately})
	return err
}

func (c *cycle) progress(ctx context.Context, db dbgen.DBTX) error {
	fence, err := c.queries.JobFence(ctx, db, dbgen.JobFenceParams{
		JobID: c.job.ID, Claims: c.job.Claims, ProgressKey: c.job.ProgressKey, LockTimeout: session.Milliseconds(time.Second),
	})
	if err != nil {
		return err
	}
	_, err = c.queries.JobProgress(ctx, db, dbgen.JobProgressParams{
		MigrationID: c.migration.ID, Slot: slot, UntilKey: c.job.UntilKey, ProcessedRows: 1, AffectedRows: 1,
		JobID: c.job.ID, Claims: c.job.Claims, TransactionID: fence.TransactionID,
	})
	return err
}

func (c *cycle) succeed(ctx context.Context, db dbgen.DBTX) error {
	_, err := c.queries.JobSucceed(ctx, db, dbgen.JobSucceedParams{JobID: c.job.ID, Claims: c.job.Claims, Now: &lately})
	return err
}

func (c *cycle) fail(ctx context.Context, db dbgen.DBTX) error {
	_, err := c.queries.JobFail(ctx, db, dbgen.JobFailParams{
		JobID: c.job.ID, Claims: c.job.Claims, ExceptionClass: "check_violation", ExceptionMessage: identity,
		RetryBase: time.Second, RetryLimit: time.Minute, ChangedBy: identity, Now: &lately,
	})
	return err
}

// status is what `bbm-runner status NAME` asks.
func (c *cycle) status(ctx context.Context) error {
	_, err := (&control.Control{Conn: c.conn, ChangedBy: identity}).Status(ctx, c.migration.Name)
	return err
}

var readCommitted = pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}

// time runs an operation with its transaction.
func (c *cycle) time(ctx context.Context, o operation) (time.Duration, error) {
	start := time.Now()
	var err error
	if o.end == isSingle {
		err = o.do(c, ctx, c.conn)
	} else {
		err = c.inTransaction(ctx, o, func(tx pgx.Tx) error { return o.do(c, ctx, tx) })
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w", o.name, err)
	}
	return time.Since(start), nil
}

// buffers runs an operation and counts the pages of our tables and indexes that it looked up in shared buffers, its foreign keys' among them.
func (c *cycle) buffers(ctx context.Context, o operation) (pages int64, err error) {
	const touched = `
SELECT sum(pg_stat_get_xact_blocks_fetched(c.oid))::bigint
FROM pg_catalog.pg_class AS c
WHERE c.relnamespace = 'bbm'::regnamespace`
	err = c.inTransaction(ctx, o, func(tx pgx.Tx) error {
		var before, after int64
		if err := tx.QueryRow(ctx, touched).Scan(&before); err != nil {
			return err
		}
		if err := o.do(c, ctx, tx); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, touched).Scan(&after)
		pages = after - before
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("%s: %w", o.name, err)
	}
	return pages, nil
}

func (c *cycle) inTransaction(ctx context.Context, o operation, do func(pgx.Tx) error) error {
	tx, err := c.conn.BeginTx(ctx, readCommitted)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return errors.Join(err, tx.Rollback(ctx))
	}
	if o.end == rollsBack {
		return tx.Rollback(ctx)
	}
	return tx.Commit(ctx)
}
