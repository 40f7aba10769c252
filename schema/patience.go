package schema

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pressly/goose/v3"
)

const (
	// Whoever comes behind a statement that waits for a lock waits as long as that. A little more than
	// deadlock_timeout, after which an autovacuum makes way.
	setLockTimeout = "SET lock_timeout = '2s'"

	// Meanwhile those who had to wait go on.
	lockPause = 3 * time.Second

	// patience is for how long a lock that another session holds is tried for again.
	patience = 4 * time.Minute
)

func limitWaits(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, setLockTimeout)
	return err
}

// patiently repeats what fails since another session holds a lock, and tells each time who that is.
// A file that failed has changed nothing, and fn goes on with it. The files of all rounds are
// returned.
func patiently(
	ctx context.Context, conn *sql.Conn, tell []func(string), fn func() ([]*goose.MigrationResult, error),
) ([]*goose.MigrationResult, error) {
	var done []*goose.MigrationResult
	giveUp := time.After(patience)
	for {
		results, err := fn()
		var partial *goose.PartialError
		var refused *pgconn.PgError
		if errors.As(err, &partial) {
			results = partial.Applied
		}
		done = append(done, results...)
		if !errors.As(err, &refused) || refused.Code != "55P03" { // lock_not_available
			return done, err
		}
		holders, lookErr := lockHolders(ctx, conn)
		if lookErr != nil {
			return done, errors.Join(err, lookErr)
		}
		inTheWay := "another session holds a lock on the tables of bbm-runner: " + holders
		for _, f := range tell {
			f(inTheWay + "; trying again")
		}
		select {
		case <-time.After(lockPause):
		case <-giveUp:
			return done, fmt.Errorf("gave up after %s, since %s; end its transaction and repeat this, which goes on where it stopped: %w", patience, inTheWay, err)
		case <-ctx.Done():
			return done, fmt.Errorf("%w while %s", ctx.Err(), inTheWay)
		}
	}
}

// lockHolders names the sessions that hold locks on our tables, the oldest transaction first.
func lockHolders(ctx context.Context, conn *sql.Conn) (holders string, err error) {
	err = conn.QueryRowContext(ctx, `
		SELECT coalesce(string_agg(h.who, ', ' ORDER BY h.since), 'it has let go meanwhile')
		FROM (
			SELECT DISTINCT
				coalesce(
					format('process %s (role %s, application %s, in its transaction since %s)', l.pid, a.usename, coalesce(nullif(a.application_name, ''), 'unnamed'), a.xact_start),
					'a prepared transaction (see pg_prepared_xacts)'
				) AS who,
				a.xact_start AS since
			FROM pg_locks AS l
			JOIN pg_class AS c ON c.oid = l.relation AND c.relnamespace = 'bbm'::regnamespace
			LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
			WHERE l.granted
			  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
			  AND l.pid IS DISTINCT FROM pg_backend_pid()
		) AS h`).Scan(&holders)
	if err != nil {
		return "", fmt.Errorf("look who holds the lock: %w", err)
	}
	return holders, nil
}
