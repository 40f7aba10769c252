package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// poolerTimeout is how long a pooler may take for an answer: it makes clients wait when it has no server connection left.
	poolerTimeout = 5 * time.Second
	// poolerQuestions are asked, one each poolerInterval: in a pool that others use, they are answered by one server connection after the other.
	poolerQuestions = 20
	poolerInterval  = 5 * time.Millisecond
	// poolerPatience is fifty times the idle timeout after which a server has ended a session for certain.
	poolerPatience = 50 * time.Millisecond
)

// ErrPooled is returned when a pooler gives server connections to transactions and not to sessions.
var ErrPooled = errors.New("the connection goes through a pooler in transaction or statement mode (as PgBouncer's pool_mode), where advisory locks, SET and " +
	"prepared statements do not last: connect to the server directly, or through a pool in session mode")

// ErrPoolExhausted is returned when a pooler has no second session for us.
var ErrPoolExhausted = errors.New("the pooler gives no second session: connect to the server directly, or give its pool in session mode " +
	"a connection for each worker and one more for each process")

// checkPooling returns [ErrPooled] or [ErrPoolExhausted] when conn, which connConfig has opened, is not a session of its own. It costs one round trip where
// there is no pooler, and two more connections where there is one. It goes before any SET, which a pooler would pass on to the application's transactions.
//
// A server names its process when a session begins; a pooler names something else, since it opens server connections later.
func checkPooling(ctx context.Context, connConfig *pgx.ConnConfig, conn *pgx.Conn) error {
	pid, err := backendPID(ctx, conn)
	if err != nil || pid == conn.PgConn().PID() {
		return err
	}
	shared, err := sharesWithHolder(ctx, connConfig, conn, pid)
	if err == nil && !shared {
		shared, err = outlivesItsServer(ctx, connConfig)
	}
	if err == nil && shared {
		return ErrPooled
	}
	return err
}

// sharesWithHolder holds a transaction open in another session. Under transaction pooling that has most probably taken the server connection on which ours
// was served, or ours is served on another one now. In session mode neither can be. Nothing is left behind by it.
func sharesWithHolder(ctx context.Context, connConfig *pgx.ConnConfig, conn *pgx.Conn, pid uint32) (bool, error) {
	holder, holderPID, err := holdTransaction(ctx, connConfig)
	if holder != nil {
		defer func() { _ = holder.Close(context.WithoutCancel(ctx)) }()
	}
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		return false, ErrPoolExhausted
	case holder == nil:
		return false, fmt.Errorf("open a second session: %w", err)
	case err != nil:
		return true, nil // in statement mode, BEGIN is refused
	case holderPID == pid:
		return true, nil
	}
	askCtx, cancel := context.WithTimeout(ctx, poolerTimeout)
	defer cancel()
	for range poolerQuestions {
		now, err := backendPID(askCtx, conn)
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		// A session has its server connection, and need not wait for one.
		if err != nil || now != pid {
			return true, nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(poolerInterval):
		}
	}
	return false, nil
}

// outlivesItsServer is the proof that leaves nothing to chance: a session asks the server to end it as soon as it is idle. A client of a pool in session
// mode ends with it; where only transactions are pooled, the client is served on another server connection. It comes last, since another client could then
// be given the server connection that ends.
func outlivesItsServer(ctx context.Context, connConfig *pgx.ConnConfig) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, poolerTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, connConfig)
	if err != nil {
		return false, fmt.Errorf("open another session: %w", errors.Join(err, ctx.Err()))
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.PgConn().Exec(ctx, "SET idle_session_timeout = 1").ReadAll(); err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return false, ErrPoolExhausted
		}
		return false, fmt.Errorf("set an idle timeout: %w", err)
	}
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case <-time.After(poolerPatience):
	}
	_, err = backendPID(ctx, conn)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	return err == nil, nil
}

// holdTransaction opens a connection with a transaction in progress, and returns the process that serves it.
func holdTransaction(ctx context.Context, connConfig *pgx.ConnConfig) (conn *pgx.Conn, pid uint32, err error) {
	ctx, cancel := context.WithTimeout(ctx, poolerTimeout)
	defer cancel()
	if conn, err = pgx.ConnectConfig(ctx, connConfig); err != nil {
		return nil, 0, errors.Join(err, ctx.Err())
	}
	if _, err = conn.PgConn().Exec(ctx, "BEGIN").ReadAll(); err == nil {
		pid, err = backendPID(ctx, conn)
	}
	if err != nil {
		err = errors.Join(err, ctx.Err())
	}
	return conn, pid, err
}

// backendPID asks by the simple protocol: a prepared statement may not be there the next time, which is what we are about to find out.
func backendPID(ctx context.Context, conn *pgx.Conn) (pid uint32, err error) {
	err = conn.QueryRow(ctx, "SELECT pg_catalog.pg_backend_pid()", pgx.QueryExecModeSimpleProtocol).Scan(&pid)
	if err != nil {
		return 0, fmt.Errorf("ask for the server process: %w", err)
	}
	return pid, nil
}
