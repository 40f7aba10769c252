// Package session opens the connections that bbm-runner works on: pinned, so that the defaults of a role or a database cannot change what a
// key means, and kept alive by the server, so that a host that vanished is noticed.
package session

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// pins are set after connecting, since poolers refuse startup parameters that they do not know. A
// policy of row-level security must raise, not skip rows; keys must read the same in every session.
// default_transaction_read_only is not among them: it is a brake that belongs to whoever
// administers the database.
var pins = [][2]string{
	{"client_encoding", "UTF8"},
	{"row_security", "off"},
	{"DateStyle", "ISO, YMD"},
	{"IntervalStyle", "postgres"},
	{timeZone, "UTC"},
	{"extra_float_digits", "1"},
	{searchPath, "pg_catalog, pg_temp"},       // temporary tables last: they are first where pg_temp is not named
	{"plan_cache_mode", "force_generic_plan"}, // what queries/plans shows is what runs; JobFence sets another for the work
	{"jit", "off"},                            // compiling a statement takes longer than a sub-batch: 200 ms where a plan avoids a disabled node at a cost of 10^10
	{"default_transaction_isolation", "read committed"},
	{"default_transaction_deferrable", "off"},
	{"synchronous_commit", "on"},
	{"client_min_messages", "warning"},
	{"standard_conforming_strings", "on"},
	{"transaction_timeout", "0"}, // since 17
	// These notice a client that is gone within 15 s, where the server's platform can.
	{"tcp_keepalives_idle", fmt.Sprint(keepalives.Idle.Seconds())},
	{"tcp_keepalives_interval", fmt.Sprint(keepalives.Interval.Seconds())},
	{"tcp_keepalives_count", fmt.Sprint(keepalives.Count)},
	{"tcp_user_timeout", fmt.Sprint(vanishedAfter.Milliseconds())},
	{"client_connection_check_interval", "5000"},
}

// SafePath goes before the pins, which name functions and types: under a role's own search_path
// those could be anybody's.
const SafePath = "SET search_path = pg_catalog, pg_temp"

// OwnRole gives up the role that a work has taken, for the one that we connected as.
var OwnRole = []string{"RESET SESSION AUTHORIZATION", "RESET ROLE"}

// What the header of a work sets for its statements.
const (
	searchPath = "search_path"
	timeZone   = "TimeZone"
)

// Config says what a session may cost others.
type Config struct {
	LockTimeout      time.Duration // how long a statement may wait for a lock; 0: no limit
	StatementTimeout time.Duration // how long a statement may take; 0: no limit
	// IdleTimeout is how long the session may say nothing, in a transaction or outside of one, before the server ends it; 0: no limit.
	IdleTimeout time.Duration
	// CommitGrace is how long a statement that may commit goes on once its context was cancelled,
	// before the connection is closed; default 10s.
	CommitGrace time.Duration
	// CheckPooling refuses a pooler that pools transactions, with [ErrPooled].
	CheckPooling bool
}

// Listen opens a connection that only waits for notifications. What vanishes on the way is noticed as by [Connect].
func Listen(ctx context.Context, connConfig *pgx.ConnConfig, channel string) (*pgx.Conn, error) {
	connConfig = connConfig.Copy()
	connConfig.DialFunc = dialer(connConfig.ConnectTimeout, 0)
	connConfig.RuntimeParams["application_name"] = "bbm-runner listener"
	conn, err := pgx.ConnectConfig(ctx, connConfig)
	if err != nil {
		return nil, explained(connConfig, err)
	}
	// A role's own limit on idle sessions would end it again and again.
	for _, statement := range []string{"SET idle_session_timeout = 0", "LISTEN " + channel} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			_ = conn.Close(context.WithoutCancel(ctx))
			return nil, fmt.Errorf("listen: %w", err)
		}
	}
	return conn, nil
}

// Connect opens a connection and pins it. When a context ends that is [Cancellable], its statement
// is cancelled by a cancel request: the connection, and the advisory locks that it holds, live on.
// A statement of any other context may commit: it is never cancelled, see [Config.CommitGrace].
func Connect(ctx context.Context, connConfig *pgx.ConnConfig, config Config) (*pgx.Conn, error) {
	given := connConfig
	connConfig = connConfig.Copy()
	gate := &cancelGate{dial: dialer(connConfig.ConnectTimeout, answerFactor*config.StatementTimeout)}
	gate.isOpen.Store(true)
	connConfig.DialFunc = gate.dialOpen
	connConfig.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &watcher{
			gate: gate, grace: cmp.Or(config.CommitGrace, defaultCommitGrace),
			request: pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: cancelGrace},
		}
	}
	if connConfig.RuntimeParams["application_name"] == "" {
		connConfig.RuntimeParams["application_name"] = "bbm-runner"
	}
	conn, err := pgx.ConnectConfig(ctx, connConfig)
	if err != nil {
		return nil, explained(connConfig, err)
	}
	gate.isOpen.Store(false)
	if config.CheckPooling {
		if err := checkPooling(ctx, given, conn); err != nil {
			_ = conn.Close(context.WithoutCancel(ctx))
			return nil, err
		}
	}
	if err := pin(ctx, conn, config); err != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
		return nil, fmt.Errorf("pin session: %w", err)
	}
	return conn, nil
}

func pin(ctx context.Context, conn *pgx.Conn, config Config) error {
	if _, err := conn.Exec(ctx, SafePath); err != nil {
		return err
	}
	_, err := dbgen.New().SessionPin(ctx, conn, config.Pins("", ""))
	return err
}

// Pins are what [Connect] sets, in a form to set it again; with the search_path and the time zone
// of a work, where they are given.
func (c Config) Pins(path, zone string) (p dbgen.SessionPinParams) {
	add := func(name, value string) {
		p.Names, p.SettingValues = append(p.Names, name), append(p.SettingValues, value)
	}
	add("lock_timeout", Milliseconds(c.LockTimeout))
	add("statement_timeout", Milliseconds(c.StatementTimeout))
	add("idle_in_transaction_session_timeout", Milliseconds(c.IdleTimeout))
	add("idle_session_timeout", Milliseconds(c.IdleTimeout))
	for _, pin := range pins {
		name, value := pin[0], pin[1]
		switch name {
		case searchPath:
			value = cmp.Or(path, value)
		case timeZone:
			value = cmp.Or(zone, value)
		}
		add(name, value)
	}
	return p
}

// PinsOfWork are those that the header of a work names, alone.
func PinsOfWork(path, zone string) dbgen.SessionPinParams {
	return dbgen.SessionPinParams{Names: []string{searchPath, timeZone}, SettingValues: []string{path, zone}}
}

// Milliseconds writes a timeout as PostgreSQL takes it. It rounds up, since 0 stands for no limit.
func Milliseconds(d time.Duration) string {
	return fmt.Sprint((d + time.Millisecond - 1).Milliseconds())
}
