package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/bbm-runner/bbm-runner/internal/control"
	"github.com/bbm-runner/bbm-runner/internal/session"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

const (
	// A server that restarts or fails over is back within seconds; one that is not there should not keep a deploy waiting.
	connectTries   = 3
	connectBackoff = 500 * time.Millisecond // before the second try; doubled for each one after

	lockTimeout    = 5 * time.Second // for rows of our own tables, which are held for moments
	connectTimeout = 5 * time.Second // of one try, where the connection string names none
	closeTimeout   = 2 * time.Second // for saying goodbye to a server that may be gone
)

// connect opens a pinned session. That it cannot is an input error: the connection string is the user's.
func (a *app) connect(ctx context.Context) (*pgx.Conn, error) {
	connConfig, err := a.connConfig()
	if err != nil {
		return nil, err
	}
	sessionConfig := session.Config{LockTimeout: lockTimeout, StatementTimeout: a.config.StatementTimeout, CheckPooling: true}
	for try := 1; ; try++ {
		conn, err := session.Connect(ctx, connConfig, sessionConfig)
		if err == nil {
			return conn, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if errors.Is(err, session.ErrPooled) || errors.Is(err, session.ErrPoolExhausted) {
			return nil, inputf("%s:%d: %w", connConfig.Host, connConfig.Port, err)
		}
		if try == connectTries || !session.MayPass(err) {
			return nil, connectFailure(connConfig, try, err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(connectBackoff << (try - 1)):
		}
	}
}

// close says goodbye; what was asked for is there already.
func (a *app) close(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx)
}

func (a *app) connConfig() (*pgx.ConnConfig, error) {
	connConfig, err := a.config.ConnConfig()
	if err != nil {
		return nil, err
	}
	if connConfig.ConnectTimeout == 0 {
		connConfig.ConnectTimeout = connectTimeout
	}
	return connConfig, nil
}

// unreachableError is returned when no connection was had; its message names the server.
type unreachableError struct {
	message string
	mayPass bool // another try may succeed
}

func (e *unreachableError) Error() string { return e.message }

func connectFailure(c *pgx.ConnConfig, tries int, err error) error {
	tried := ""
	if tries > 1 {
		tried = fmt.Sprintf(" after %d tries", tries)
	}
	message := fmt.Sprintf("cannot connect to %s:%d, database %q, as %q%s: %s", c.Host, c.Port, c.Database, c.User, tried, oneLine(err))
	return &inputError{&unreachableError{message, session.MayPass(err)}}
}

// withControl connects, makes sure that our schema is the one that this binary serves, and calls do.
func (a *app) withControl(ctx context.Context, works *work.Registry, do func(*control.Control) error) error {
	return a.withConn(ctx, func(conn *pgx.Conn) error { return a.act(ctx, conn, works, do) })
}

func (a *app) act(ctx context.Context, conn *pgx.Conn, works *work.Registry, do func(*control.Control) error) error {
	c := &control.Control{Conn: conn, Works: works, ChangedBy: changedBy()}
	if err := c.CheckSchema(ctx); err != nil {
		return err
	}
	return c.ExplainRights(do(c), a.role())
}

// role is the one of docs/roles.sql whose rights the command takes.
func (a *app) role() string {
	switch a.command {
	case "status", "jobs", "logs", "wait", "verify", "list": // the last of quarantine
		return "bbm_viewer"
	case "run":
		return "bbm_runner"
	}
	return "bbm_operator"
}

func (a *app) withConn(ctx context.Context, do func(*pgx.Conn) error) error {
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer a.close(ctx, conn)
	return explainReadOnly(ctx, conn, do(conn))
}

// explainReadOnly says what a server means that refuses to write.
func explainReadOnly(ctx context.Context, conn *pgx.Conn, err error) error {
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || refused.Code != "25006" {
		return err
	}
	var isStandby bool
	if conn.QueryRow(ctx, "SELECT pg_is_in_recovery()").Scan(&isStandby) == nil && isStandby {
		return fmt.Errorf("nothing was changed: the server is a standby; connect to the primary: name all hosts and target_session_attrs=read-write (%w)", err)
	}
	return fmt.Errorf("nothing was changed: the database is read-only, since default_transaction_read_only is on for it, for this role or for the server; "+
		"whoever has set it turns it off (%w)", err)
}

// changedBy is who the logs name: the user at this host.
func changedBy() string {
	name, host := "unknown", "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	return name + "@" + host
}
