package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5"
)

// trial is one run of one contender on a fresh copy of the table.
type trial struct {
	server *server
	binary *binary
	layout layout
	rows   int
	name   string // of the migration, unique on its server
	measurement
}

// section is a comparison on one layout.
type section struct {
	name       string
	layout     layout
	rows       int
	rounds     int
	contenders []contender
	rowBytes   float64 // on disk, the pages' own part included
	results    series
	disturbed  series // runs that were repeated for it
	repeats    bool   // what is disturbed
}

// compare runs the rounds on a server of their own.
func (s *section) compare(ctx context.Context, server *server, binary *binary, progress progress) error {
	if err := s.warmUp(ctx, server, binary); err != nil {
		return err
	}
	for n := range s.rounds {
		if err := s.round(ctx, server, binary, n+1, progress); err != nil {
			return err
		}
	}
	return nil
}

// warmUp makes the template and runs one UPDATE that is not counted: it makes the segments of the write-ahead log that later runs use again.
func (s *section) warmUp(ctx context.Context, server *server, binary *binary) error {
	if err := execAll(ctx, server.conn, s.layout.template(s.rows)); err != nil {
		return err
	}
	err := server.conn.QueryRow(ctx, `SELECT pg_relation_size('app.template')::double precision / $1`, float64(s.rows)).Scan(&s.rowBytes)
	if err != nil {
		return err
	}
	_, err = s.try(ctx, server, binary, contender{name: "warm-up", run: runPlainUpdate}, 0)
	return err
}

// round runs every contender once, in random order, so that what the machine does to one it does to all.
func (s *section) round(ctx context.Context, server *server, binary *binary, number int, progress progress) error {
	for _, i := range rand.Perm(len(s.contenders)) {
		m, disturbed, err := s.tryInQuiet(ctx, server, binary, s.contenders[i], number)
		if err != nil {
			return err
		}
		s.disturbed = append(s.disturbed, disturbed...)
		s.results = append(s.results, m)
		progress("%s, round %d of %d: %-40s %7.2f s (other programs: %.2f s)",
			s.name, number, s.rounds, m.contender, m.wall.Seconds(), m.cpu.other.Seconds())
	}
	return nil
}

const (
	// disturbance is the share of the processors from which on other programs spoil a run. On a quiet machine it is below a hundredth.
	disturbance = 0.05
	// quietAttempts bounds the wait for a quiet machine.
	quietAttempts = 5
)

// tryInQuiet repeats a run that other programs have disturbed, whatever its time was; the last attempt counts in any case.
func (s *section) tryInQuiet(
	ctx context.Context, server *server, binary *binary, c contender, round int,
) (m measurement, disturbed series, err error) {
	for range quietAttempts {
		if m, err = s.try(ctx, server, binary, c, round); err != nil || !m.isDisturbed() || !s.repeats {
			return m, disturbed, err
		}
		disturbed = append(disturbed, m)
	}
	return m, disturbed[:quietAttempts-1], nil
}

func (m measurement) isDisturbed() bool {
	return m.cpu.other.Seconds() > disturbance*m.wall.Seconds()*float64(runtime.NumCPU())
}

// progress tells somebody who waits.
type progress func(format string, values ...any)

// try restores the table, runs a contender and proves that it has done its work.
func (s *section) try(ctx context.Context, server *server, binary *binary, c contender, round int) (measurement, error) {
	t := &trial{server: server, binary: binary, layout: s.layout, rows: s.rows}
	t.contender, t.round = c.name, round
	t.name = fmt.Sprintf("bench_%d", time.Now().UnixNano())
	fail := func(err error) (measurement, error) {
		return measurement{}, fmt.Errorf("%s, %s: %w", s.name, c.name, err)
	}
	if err := s.layout.restore(ctx, server.conn, s.rows); err != nil {
		return fail(err)
	}
	if err := c.run(ctx, t); err != nil {
		return fail(err)
	}
	if err := s.layout.prove(ctx, server.conn, s.rows); err != nil {
		return fail(err)
	}
	return t.measurement, nil
}

// timed measures what is done on a connection of its own, which is made before.
func (t *trial) timed(ctx context.Context, do func(*pgx.Conn) error) (err error) {
	conn, err := t.server.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	stop, err := t.watch(ctx)
	if err != nil {
		return err
	}
	if err := do(conn); err != nil {
		return err
	}
	return stop(ctx)
}

// watch begins to measure. The function that it returns ends that; the harness is the client then.
func (t *trial) watch(ctx context.Context) (stop func(context.Context) error, err error) {
	walBefore, err := t.server.walPosition(ctx)
	if err != nil {
		return nil, err
	}
	before, began := readProcessorTimes(t.server.postmaster), time.Now()
	return func(ctx context.Context) error {
		t.wall = time.Since(began)
		after := readProcessorTimes(t.server.postmaster)
		t.cpu.server = after.server - before.server
		t.cpu.client = after.harness - before.harness
		t.cpu.stolen = after.stolen - before.stolen
		t.cpu.other = max(0, after.busy-before.busy-t.cpu.server-t.cpu.client)
		walAfter, err := t.server.walPosition(ctx)
		t.walBytes = walAfter - walBefore
		return err
	}, nil
}

func (s *server) connect(ctx context.Context) (*pgx.Conn, error) {
	return pgx.Connect(ctx, s.URL("postgres"))
}

// walPosition is how many bytes the server has written to its log since it was made.
func (s *server) walPosition(ctx context.Context) (position int64, err error) {
	err = s.conn.QueryRow(ctx, `SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint`).Scan(&position)
	return position, err
}
