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

// long is before every time in the database: nothing that waits is due then.
var long = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

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
	// isSingle: one statement, that commits itself.
	isSingle bool
}

// operations leave what they found, but for one more succeeded job.
var operations = []operation{
	{name: "claim: look for a migration", do: (*cycle).list, isSingle: true},
	{name: "claim: cut a new job", do: (*cycle).cut},
	{name: "progress: fence and progress of a sub-batch", do: (*cycle).progress},
	{name: "record: succeed", do: (*cycle).succeed, isSingle: true},
	{name: "claim: start a waiting job", do: (*cycle).start},
	{name: "record: give back", do: (*cycle).release, isSingle: true},
}

func (c *cycle) list(ctx context.Context, db dbgen.DBTX) error {
	found, err := c.queries.MigrationListClaimable(ctx, db, dbgen.MigrationListClaimableParams{Works: c.works, OnlyNames: []string{}})
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
	locked, err := c.queries.MigrationLockClaimable(ctx, db, dbgen.MigrationLockClaimableParams{MigrationID: c.migration.ID})
	c.migration = locked.Migration
	return err
}

func (c *cycle) cut(ctx context.Context, db dbgen.DBTX) error {
	if err := c.lock(ctx, db); err != nil {
		return err
	}
	_, err := c.queries.JobClaim(ctx, db, dbgen.JobClaimParams{MigrationID: c.migration.ID, Slot: slot, Runner: identity, Now: &long})
	if !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("a job was due in the year 2000: %w", err)
	}
	frontier, err := strconv.ParseInt(c.migration.FrontierKey[0], 10, 64)
	if err != nil {
		return err
	}
	row, err := c.queries.JobCut(ctx, db, dbgen.JobCutParams{
		MigrationID: c.migration.ID, AfterKey: c.migration.FrontierKey, UntilKey: []string{strconv.FormatInt(frontier+1, 10)}, Slot: slot, Runner: identity,
	})
	c.job = dbgen.Job(row)
	return err
}

func (c *cycle) start(ctx context.Context, db dbgen.DBTX) error {
	if err := c.lock(ctx, db); err != nil {
		return err
	}
	row, err := c.queries.JobClaim(ctx, db, dbgen.JobClaimParams{MigrationID: c.migration.ID, Slot: slot, Runner: identity})
	c.job = dbgen.Job(row)
	return err
}

func (c *cycle) progress(ctx context.Context, db dbgen.DBTX) error {
	transaction, err := c.queries.JobFence(ctx, db, dbgen.JobFenceParams{JobID: c.job.ID, Claims: c.job.Claims, ProgressKey: c.job.ProgressKey})
	if err != nil {
		return err
	}
	_, err = c.queries.JobProgress(ctx, db, dbgen.JobProgressParams{
		MigrationID: c.migration.ID, Slot: slot, UntilKey: c.job.UntilKey, ProcessedRows: 1, AffectedRows: 1,
		JobID: c.job.ID, Claims: c.job.Claims, TransactionID: transaction,
	})
	return err
}

func (c *cycle) succeed(ctx context.Context, db dbgen.DBTX) error {
	_, err := c.queries.JobSucceed(ctx, db, dbgen.JobSucceedParams{JobID: c.job.ID, Claims: c.job.Claims})
	return err
}

func (c *cycle) release(ctx context.Context, db dbgen.DBTX) error {
	_, err := c.queries.JobRelease(ctx, db, dbgen.JobReleaseParams{
		JobID: c.job.ID, Claims: c.job.Claims, ExceptionClass: "Interrupted", ExceptionMessage: identity,
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
	if o.isSingle {
		err = o.do(c, ctx, c.conn)
	} else {
		err = pgx.BeginTxFunc(ctx, c.conn, readCommitted, func(tx pgx.Tx) error { return o.do(c, ctx, tx) })
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
	err = pgx.BeginTxFunc(ctx, c.conn, readCommitted, func(tx pgx.Tx) error {
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
