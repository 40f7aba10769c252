package plans

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/localpg"
	"github.com/bbm-runner/bbm-runner/internal/session"
	"github.com/bbm-runner/bbm-runner/schema"
)

// BinVariable names the folder of the server binaries to use, as in the tests.
const BinVariable = "BBM_TEST_POSTGRES_BIN"

// clusterSettings are for loading: without archiving, what one transaction makes and fills is not logged at all. Autovacuum would
// analyze again, and statistics are to stay as they are. None of them is a setting that the planner looks at.
var clusterSettings = map[string]string{
	"wal_level":            "minimal",
	"max_wal_senders":      "0",
	"max_wal_size":         "1GB",
	"fsync":                "off",
	"full_page_writes":     "off",
	"autovacuum":           "off",
	"shared_buffers":       "1GB",
	"maintenance_work_mem": "1GB",
	"checkpoint_timeout":   "1h",
}

// Cluster is a kept local server with seeded databases.
type Cluster struct {
	server  *localpg.Server
	dir     string
	version string // of what is loaded: a database is named for it
	// functions are the definitions of ours: they change more often than the tables, and a database that is kept gets the present ones.
	functions []string
}

// OpenCluster starts the server on its kept data, which are in a folder for each major version, and drops databases that the present
// tables and seed would not make.
func OpenCluster(ctx context.Context) (_ *Cluster, err error) {
	binDir, major, err := localpg.Find(ctx, os.Getenv(BinVariable))
	if err != nil {
		return nil, err
	}
	dir, err := localpg.KeptDir(fmt.Sprintf("plans-%d", major))
	if err != nil {
		return nil, err
	}
	server, err := localpg.Start(ctx, localpg.Options{BinDir: binDir, Kept: dir, Settings: clusterSettings})
	if err != nil {
		return nil, fmt.Errorf("start the cluster in %s: %w", dir, err)
	}
	c := &Cluster{server: server, dir: dir}
	if err := c.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the cluster in %s: %w", dir, err), c.Close())
	}
	return c, nil
}

// Close stops the server; its data stay.
func (c *Cluster) Close() error { return c.server.Stop() }

// Dir returns the folder of its data.
func (c *Cluster) Dir() string { return c.dir }

// Version returns the server's major version.
func (c *Cluster) Version() int { return c.server.Version() }

// prepare makes a database with our schema alone, to see from it which version of the seeded ones is wanted, and drops the others.
func (c *Cluster) prepare(ctx context.Context) error {
	const name = "bbm_version"
	err := c.make(ctx, name, func(conn *pgx.Conn) (err error) {
		if c.version, err = version(ctx, conn); err == nil {
			c.functions, err = readFunctions(ctx, conn)
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.asAdmin(ctx, func(admin *pgx.Conn) error {
		rows, err := admin.Query(ctx, "SELECT d.datname::text FROM pg_database AS d WHERE d.datname ~ '^bbm_' AND NOT d.datname ~ ('_' || $1 || '$')", c.version)
		if err != nil {
			return err
		}
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		return drop(ctx, admin, names...)
	})
}

// Database returns the URL of the database of that name and scale, loading it where it is not there yet. A half loaded one has another
// name, and is made anew.
func (c *Cluster) Database(ctx context.Context, name string, scale Scale) (url string, err error) {
	name = "bbm_" + name + "_" + c.version
	var exists bool
	if err := c.asAdmin(ctx, func(admin *pgx.Conn) error {
		return admin.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists)
	}); err != nil {
		return "", fmt.Errorf("look for database %s: %w", name, err)
	}
	if exists {
		return c.server.URL(name), c.in(ctx, name, func(conn *pgx.Conn) error { return replaceFunctions(ctx, conn, c.functions) })
	}
	draft := "bbm_draft"
	if err := c.make(ctx, draft, func(conn *pgx.Conn) error { return Seed(ctx, conn, scale) }); err != nil {
		return "", fmt.Errorf("load database %s: %w", name, err)
	}
	return c.server.URL(name), c.asAdmin(ctx, func(admin *pgx.Conn) error {
		_, err := admin.Exec(ctx, "ALTER DATABASE "+draft+" RENAME TO "+name)
		return err
	})
}

// make makes a database with our schema, anew, and calls fn with a connection to it.
func (c *Cluster) make(ctx context.Context, name string, fn func(*pgx.Conn) error) error {
	err := c.asAdmin(ctx, func(admin *pgx.Conn) error {
		if err := drop(ctx, admin, name); err != nil {
			return err
		}
		_, err := admin.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE template0")
		return err
	})
	if err != nil {
		return err
	}
	config, err := pgx.ParseConfig(c.server.URL(name))
	if err != nil {
		return err
	}
	if _, err := schema.Up(ctx, config); err != nil {
		return err
	}
	return c.in(ctx, name, fn)
}

func (c *Cluster) asAdmin(ctx context.Context, fn func(*pgx.Conn) error) error {
	return c.in(ctx, "postgres", fn)
}

// in calls fn with a connection to the database.
func (c *Cluster) in(ctx context.Context, name string, fn func(*pgx.Conn) error) error {
	config, err := pgx.ParseConfig(c.server.URL(name))
	if err != nil {
		return err
	}
	conn, err := session.Connect(ctx, config, session.Config{})
	if err != nil {
		return err
	}
	return errors.Join(fn(conn), conn.Close(ctx))
}

func drop(ctx context.Context, admin *pgx.Conn, names ...string) error {
	for _, name := range names {
		if _, err := admin.Exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize()); err != nil {
			return err
		}
	}
	return nil
}
