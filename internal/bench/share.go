package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// share tells where a run of bbm-runner spends its time: on the server by statement, and in its session by what the server was waiting for. It is
// taken from runs of its own, since asking costs something.
type share struct {
	contender  string
	wall       time.Duration
	statements []statementClass
	waits      []wait // the most frequent first
	samples    int
}

// statementClass is what the server spent on statements of one purpose, planning included.
type statementClass struct {
	name  string
	calls int64
	time  time.Duration
}

// wait is how often a session was found so.
type wait struct {
	state, event string
	samples      int
}

// Classes of statements.
const (
	classWork     = "the work"
	classBoundary = "boundary queries, with their settings"
	classFence    = "fence and progress"
	classCommit   = "BEGIN, COMMIT"
	classOther    = "gates, slots, claims, records"
)

func (b *bench) measureShares(ctx context.Context) error {
	if !b.wants(sectionShare) {
		return nil
	}
	return b.onServer(ctx, nil, func(server *server) error {
		s := &section{name: sectionShare, layout: bigintLayout, rows: b.rows}
		if b.noShares = server.statistics; b.noShares != nil {
			return nil
		}
		if err := execAll(ctx, server.conn, s.layout.template(s.rows)); err != nil {
			return err
		}
		for _, c := range selected(fixedOne, adaptiveOne, adaptiveTwo) {
			one, err := b.measureShare(ctx, server, s, c)
			if err != nil {
				return err
			}
			b.shares = append(b.shares, one)
			b.progress("%s: %-42s %7.2f s", s.name, c.name, one.wall.Seconds())
		}
		return nil
	})
}

func (b *bench) measureShare(ctx context.Context, server *server, s *section, c contender) (share, error) {
	one := share{contender: c.name}
	sampler, err := server.connect(ctx)
	if err != nil {
		return one, err
	}
	defer func() { _ = sampler.Close(context.WithoutCancel(ctx)) }()

	// New sessions are tracked; those that look after the tables are not.
	const database = `ALTER DATABASE postgres `
	track := contender{name: c.name, run: func(ctx context.Context, t *trial) error {
		err := execAll(ctx, server.conn, []string{database + `SET pg_stat_statements.track = 'top'`, `SELECT pg_stat_statements_reset()`})
		if err != nil {
			return err
		}
		sampling, stop := context.WithCancel(ctx)
		sampled := make(chan error, 1)
		go func() { sampled <- one.sample(sampling, sampler) }()
		err = c.run(ctx, t)
		stop()
		return errors.Join(err, <-sampled, execAll(ctx, server.conn, []string{database + `RESET pg_stat_statements.track`}))
	}}
	m, err := s.try(ctx, server, b.binary, track, 1)
	if err != nil {
		return one, err
	}
	one.wall = m.wall
	one.statements, err = server.statementClasses(ctx)
	return one, err
}

// statementClasses sorts what was tracked by purpose.
func (s *server) statementClasses(ctx context.Context) ([]statementClass, error) {
	rows, err := s.conn.Query(ctx, `
		SELECT s.query, s.calls, s.total_plan_time + s.total_exec_time
		FROM pg_stat_statements AS s
		JOIN pg_database AS d ON d.oid = s.dbid AND d.datname = current_database()`)
	if err != nil {
		return nil, fmt.Errorf("read pg_stat_statements: %w", err)
	}
	classes := []statementClass{{name: classWork}, {name: classCommit}, {name: classFence}, {name: classBoundary}, {name: classOther}}
	var text string
	var calls int64
	var milliseconds float64
	_, err = pgx.ForEachRow(rows, []any{&text, &calls, &milliseconds}, func() error {
		for i := range classes {
			if classes[i].name == classify(text) {
				classes[i].calls += calls
				classes[i].time += time.Duration(milliseconds * float64(time.Millisecond))
			}
		}
		return nil
	})
	return classes, err
}

// classify tells a statement's purpose by its text.
func classify(text string) string {
	has := func(part string) bool { return strings.Contains(text, part) }
	switch {
	case has("UPDATE app.accounts"):
		return classWork
	case strings.HasPrefix(text, "BEGIN"), strings.HasPrefix(text, "COMMIT"):
		return classCommit
	case has("JobFence"), has("JobProgress"), has("assert_fence"), has("pg_current_xact_id()"):
		return classFence
	case has("accounts"), has("enable_sort"):
		return classBoundary
	}
	return classOther
}

// ownShare is the part of the server's time that goes to anything but the work and the ends of transactions, which every loop has.
func (s share) ownShare() float64 {
	var own, all time.Duration
	for _, class := range s.statements {
		all += class.time
		if class.name != classWork && class.name != classCommit {
			own += class.time
		}
	}
	if all == 0 {
		return 0
	}
	return own.Seconds() / all.Seconds()
}
