package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// share tells where a run of bbm-runner spends its time: on the server by statement, and in its session by what the server was waiting for. It is
// taken from runs of its own, since asking costs something.
type share struct {
	contender  string
	wall       time.Duration
	statements []statement // the most expensive first
	waits      []wait      // the most frequent first
	samples    int
}

// statement is what the server spent on statements of one name.
type statement struct {
	name               string
	calls              int64
	planning, executed time.Duration
}

func (s statement) time() time.Duration { return s.planning + s.executed }

// wait is how often a session was found so.
type wait struct {
	state, event string
	samples      int
}

// Names of the statements that sqlc has given none.
const (
	statementWork     = "the work"
	statementBoundary = "boundary query"
	statementSettings = "settings of the boundary query"
	statementOther    = "others"
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
	one.statements, err = server.trackedStatements(ctx)
	return one, err
}

// trackedStatements sums up by name what was tracked. BEGIN and COMMIT are not in it: of a prepared utility statement pg_stat_statements counts the
// first execution alone, and the wait for the disk comes after what it sees of a COMMIT.
func (s *server) trackedStatements(ctx context.Context) ([]statement, error) {
	rows, err := s.conn.Query(ctx, `
		SELECT s.query, s.calls, s.total_plan_time, s.total_exec_time
		FROM pg_stat_statements AS s
		JOIN pg_database AS d ON d.oid = s.dbid AND d.datname = current_database()
		WHERE s.query !~* '^(begin|commit)'`)
	if err != nil {
		return nil, fmt.Errorf("read pg_stat_statements: %w", err)
	}
	byName := make(map[string]statement)
	var text string
	var calls int64
	var planning, executed float64 // milliseconds
	_, err = pgx.ForEachRow(rows, []any{&text, &calls, &planning, &executed}, func() error {
		one := byName[statementName(text)]
		one.name = statementName(text)
		one.calls += calls
		one.planning += time.Duration(planning * float64(time.Millisecond))
		one.executed += time.Duration(executed * float64(time.Millisecond))
		byName[one.name] = one
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read pg_stat_statements: %w", err)
	}
	return slices.SortedFunc(maps.Values(byName), func(a, b statement) int { return cmp.Compare(b.time(), a.time()) }), nil
}

var sqlcName = regexp.MustCompile(`-- name: (\w+)`)

// statementName is sqlc's name, or what the text tells.
func statementName(text string) string {
	if match := sqlcName.FindStringSubmatch(text); match != nil {
		return match[1]
	}
	switch {
	// PostgreSQL 18 may keep a text without the comment before it.
	case strings.Contains(text, "bbm.assert_fence("):
		return "JobProgress"
	case strings.Contains(text, "pg_current_xact_id()"):
		return "JobFence"
	case strings.Contains(text, "SET balance = "):
		return statementWork
	case strings.Contains(text, "enable_sort"):
		return statementSettings
	case strings.Contains(text, "accounts"):
		return statementBoundary
	}
	return statementOther
}

// ownShare is the part of the server's time that goes to anything but the work.
func (s share) ownShare() float64 {
	var own, all time.Duration
	for _, one := range s.statements {
		all += one.time()
		if one.name != statementWork {
			own += one.time()
		}
	}
	if all == 0 {
		return 0
	}
	return own.Seconds() / all.Seconds()
}
