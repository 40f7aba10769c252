package plans

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
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

// Cluster is a kept local server with seeded databases. It is loaded once for a schema and a seed.
type Cluster struct {
	server *localpg.Server
	dir    string
}

// OpenCluster starts the server on its kept data.
func OpenCluster(ctx context.Context) (*Cluster, error) {
	name, err := clusterName()
	if err != nil {
		return nil, err
	}
	path, err := localpg.KeptDir(name)
	if err != nil {
		return nil, err
	}
	server, err := localpg.Start(ctx, localpg.Options{BinDir: os.Getenv(BinVariable), Kept: path, Settings: clusterSettings})
	if err != nil {
		return nil, fmt.Errorf("start the cluster in %s: %w", path, err)
	}
	return &Cluster{server, path}, nil
}

// Close stops the server; its data stay.
func (c *Cluster) Close() error { return c.server.Stop() }

// Dir returns the folder of its data.
func (c *Cluster) Dir() string { return c.dir }

// Version returns the server's major version.
func (c *Cluster) Version() int { return c.server.Version() }

// Database returns the URL of the database of that name and scale, loading it where it is not there yet. A half loaded one has another
// name, and is made anew.
func (c *Cluster) Database(ctx context.Context, name string, scale Scale) (url string, err error) {
	admin, err := pgx.Connect(ctx, c.server.URL("postgres"))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, admin.Close(ctx)) }()
	var exists bool
	if err := admin.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists); err != nil {
		return "", fmt.Errorf("look for database %s: %w", name, err)
	}
	if exists {
		return c.server.URL(name), nil
	}

	draft := name + "_draft"
	for _, sql := range []string{"DROP DATABASE IF EXISTS " + draft, "CREATE DATABASE " + draft + " TEMPLATE template0"} {
		if _, err := admin.Exec(ctx, sql); err != nil {
			return "", fmt.Errorf("%s: %w", sql, err)
		}
	}
	if err := load(ctx, c.server.URL(draft), scale); err != nil {
		return "", fmt.Errorf("load database %s: %w", name, err)
	}
	if _, err := admin.Exec(ctx, "ALTER DATABASE "+draft+" RENAME TO "+name); err != nil {
		return "", fmt.Errorf("name database %s: %w", name, err)
	}
	return c.server.URL(name), nil
}

func load(ctx context.Context, url string, scale Scale) (err error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return err
	}
	if _, err := schema.Up(ctx, config); err != nil {
		return err
	}
	conn, err := session.Connect(ctx, config, session.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	return Seed(ctx, conn, scale)
}

// clusterName holds a hash of what is loaded: another schema or another seed is another cluster.
func clusterName() (string, error) {
	hash := sha256.New()
	files, err := fs.Glob(schema.FS, "*.sql")
	if err != nil {
		return "", err
	}
	for _, file := range files {
		text, err := schema.FS.ReadFile(file)
		if err != nil {
			return "", err
		}
		_, _ = hash.Write(text) // never fails
	}
	_, _ = fmt.Fprintf(hash, "%v %d %s %d", Large, unsucceededEvery, firstMonth, months)
	_, _ = hash.Write([]byte(seedMigrations + seedJobs + seedLogs + finishMigrations))
	return "plans-" + hex.EncodeToString(hash.Sum(nil))[:12], nil
}
