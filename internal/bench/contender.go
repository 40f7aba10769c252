package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"github.com/jackc/pgx/v5"
)

// contender is one way to change every row of app.accounts.
type contender struct {
	name, description string
	run               func(ctx context.Context, t *trial) error
	migration         *migrationOptions // of bbm-runner; nil for others
}

// Names of contenders that ratios refer to.
const (
	plainUpdate  = "UPDATE"
	serverLoop   = "PL/pgSQL loop"
	clientLoop   = "pgx loop"
	floorLoop    = "pgx loop, asynchronous"
	twoUpdates   = "two UPDATEs"
	fixedOne     = "bbm-runner, 1 worker, 1,000"
	adaptiveOne  = "bbm-runner, 1 worker"
	fixedTwo     = "bbm-runner, 2 workers, 1,000"
	adaptiveTwo  = "bbm-runner, 2 workers"
	fixedSyncOne = "bbm-runner, 1 worker, 1,000, synchronous"
	adaptiveSync = "bbm-runner, 2 workers, synchronous"
)

// contenders are all of them, in the order of the report.
func contenders() []contender {
	all := []contender{
		{name: plainUpdate, description: "one statement: `" + updateAll + "`", run: runPlainUpdate},
		{name: serverLoop, description: "a procedure that walks the key and commits every 1,000 rows, called once", run: runServerLoop},
		{name: clientLoop, description: "written by hand in Go: next boundary, BEGIN, UPDATE of 1,000 rows by key, COMMIT; four round trips, commits wait for the disk",
			run: func(ctx context.Context, t *trial) error { return runClientLoop(ctx, t, "on") }},
		{name: floorLoop, description: "the same with `synchronous_commit = off`: unsafe without progress in the same transaction, but what a bare loop can reach",
			run: func(ctx context.Context, t *trial) error { return runClientLoop(ctx, t, "off") }},
		{name: twoUpdates, description: "two sessions, each with one UPDATE of half the keys: what two processors can reach", run: runTwoUpdates},
	}
	for _, c := range []struct {
		name string
		migrationOptions
	}{
		{fixedOne, migrationOptions{workers: 1, subBatchSize: loopSize}},
		{adaptiveOne, migrationOptions{workers: 1}},
		{fixedTwo, migrationOptions{workers: 2, subBatchSize: loopSize}},
		{adaptiveTwo, migrationOptions{workers: 2}},
		{fixedSyncOne, migrationOptions{workers: 1, subBatchSize: loopSize, synchronous: true}},
		{adaptiveSync, migrationOptions{workers: 2, synchronous: true}},
	} {
		all = append(all, contender{
			name: c.name, description: "`" + c.command() + "`", migration: &c.migrationOptions,
			run: func(ctx context.Context, t *trial) error { return t.runMigration(ctx, c.migrationOptions) },
		})
	}
	return all
}

// selected are the contenders of these names, in the order of the report.
func selected(names ...string) (chosen []contender) {
	for _, c := range contenders() {
		for _, name := range names {
			if c.name == name {
				chosen = append(chosen, c)
			}
		}
	}
	return chosen
}

// migrationOptions say how bbm-runner is to run.
type migrationOptions struct {
	workers      int
	subBatchSize int // 0: chosen by the runner
	synchronous  bool
}

// command is what an operator would type.
func (o migrationOptions) command() string {
	text := "enqueue " + workName
	for _, arg := range o.enqueueFlags() {
		text += " " + arg
	}
	if o.synchronous {
		text += "; set " + workName + " " + synchronousCommits
	}
	return fmt.Sprintf("%s; run --workers %d", text, o.workers)
}

const synchronousCommits = "asynchronous_commit=off"

func (o migrationOptions) enqueueFlags() (flags []string) {
	if o.workers > 1 {
		flags = append(flags, "--parallelism", strconv.Itoa(o.workers))
	}
	if o.subBatchSize > 0 {
		flags = append(flags, "--sub-batch-size", strconv.Itoa(o.subBatchSize))
	}
	return flags
}

func runPlainUpdate(ctx context.Context, t *trial) error {
	return t.timed(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, updateAll)
		return err
	})
}

func runServerLoop(ctx context.Context, t *trial) error {
	return t.timed(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `CALL app.add_to_all()`)
		return err
	})
}

func runClientLoop(ctx context.Context, t *trial, synchronousCommit string) error {
	return t.timed(ctx, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, `SET synchronous_commit = `+synchronousCommit); err != nil {
			return err
		}
		if err := t.layout.clientLoop(ctx, conn); err != nil {
			return err
		}
		// What is not on disk yet counts too.
		_, err := conn.Exec(ctx, `SET synchronous_commit = on; CREATE TABLE app.flushed (); DROP TABLE app.flushed`)
		return err
	})
}

// runTwoUpdates cuts the table where bbm-runner would: at the middle of the key.
func runTwoUpdates(ctx context.Context, t *trial) error {
	var middle string
	err := t.server.conn.QueryRow(ctx, fmt.Sprintf(`SELECT a.id::text FROM app.accounts AS a ORDER BY a.id OFFSET %d LIMIT 1`, t.rows/2)).Scan(&middle)
	if err != nil {
		return err
	}
	second, err := t.server.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = second.Close(context.WithoutCancel(ctx)) }()
	return t.timed(ctx, func(first *pgx.Conn) error {
		var both sync.WaitGroup
		var errs [2]error
		for i, half := range []string{"<=", ">"} {
			conn := []*pgx.Conn{first, second}[i]
			both.Go(func() {
				_, errs[i] = conn.Exec(ctx, fmt.Sprintf(`%s WHERE a.id %s '%s'`, updateAll, half, middle))
			})
		}
		both.Wait()
		if errs[0] != nil {
			return errs[0]
		}
		return errs[1]
	})
}
