package dbtest

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
)

// runLockClass is the first half of the advisory locks that tell which runs are alive: "bbmr" in ASCII.
const runLockClass = 0x62626d72

// run is one test binary's use of a server. As long as it lives it holds an advisory lock on its number, which is in the
// names of its databases: bbm_test_<oid of the database that is locked in>_<run>_<count>.
type run struct {
	url      string
	template string
	prefix   string
	count    atomic.Int64
	conn     *pgx.Conn // holds the lock, and is not used for anything else
}

func newRun(ctx context.Context, url string) (_ *run, err error) {
	template, err := ensureTemplate(ctx, url)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, conn.Close(ctx))
		}
	}()
	var bytes [4]byte
	_, _ = rand.Read(bytes[:]) // Read never fails.
	number := int32(binary.BigEndian.Uint32(bytes[:]) >> 1)
	var oid uint32
	err = conn.QueryRow(ctx,
		"SELECT oid, pg_advisory_lock($1, $2) FROM pg_database WHERE datname = current_database()", runLockClass, number,
	).Scan(&oid, nil)
	if err != nil {
		return nil, fmt.Errorf("lock test run: %w", err)
	}
	base := fmt.Sprintf("bbm_test_%d_", oid)
	if err := dropAbandoned(ctx, conn, base); err != nil {
		return nil, err
	}
	return &run{url: url, template: template, prefix: fmt.Sprintf("%s%d_", base, number), conn: conn}, nil
}

func (r *run) close(ctx context.Context) error { return r.conn.Close(ctx) }

// create makes a database from the template and returns its name.
func (r *run) create(ctx context.Context, template string) (string, error) {
	name := r.prefix + strconv.FormatInt(r.count.Add(1), 10)
	return name, r.exec(ctx, "CREATE DATABASE "+quote(name)+" TEMPLATE "+quote(template))
}

// drop ends whatever a test has left connected.
func (r *run) drop(ctx context.Context, name string) error {
	return r.exec(ctx, "DROP DATABASE IF EXISTS "+quote(name)+" WITH (FORCE)")
}

// exec uses a connection of its own, so that parallel tests do not queue for one.
func (r *run) exec(ctx context.Context, statement string) (err error) {
	conn, err := pgx.Connect(ctx, r.url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	return execAll(ctx, conn, statement)
}

// databaseURL returns the server's URL with another database.
func (r *run) databaseURL(name string) (string, error) {
	u, err := url.Parse(r.url)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return "", fmt.Errorf("%s must be a URL (postgres://…)", URLVariable)
	}
	u.Path = "/" + name
	return u.String(), nil
}

// dropAbandoned drops the databases of runs that were killed: those whose lock can be had.
func dropAbandoned(ctx context.Context, conn *pgx.Conn, base string) error {
	rows, err := conn.Query(ctx, "SELECT datname FROM pg_database WHERE starts_with(datname, $1)", base)
	if err != nil {
		return fmt.Errorf("list test databases: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("list test databases: %w", err)
	}
	for _, name := range names {
		runNumber, _, _ := strings.Cut(strings.TrimPrefix(name, base), "_")
		number, err := strconv.ParseInt(runNumber, 10, 32)
		if err != nil {
			continue
		}
		var free bool
		if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1, $2)", runLockClass, number).Scan(&free); err != nil {
			return fmt.Errorf("look for abandoned test runs: %w", err)
		}
		if !free {
			continue
		}
		// Of two runs that tidy up at once, one finds nothing left to drop.
		if err := execAll(ctx, conn, "DROP DATABASE IF EXISTS "+quote(name)+" WITH (FORCE)"); err != nil {
			return fmt.Errorf("drop abandoned test database: %w", err)
		}
		if _, err := conn.Exec(ctx, "SELECT pg_advisory_unlock($1, $2)", runLockClass, number); err != nil {
			return fmt.Errorf("release abandoned test run: %w", err)
		}
	}
	return nil
}
