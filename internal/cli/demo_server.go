package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/control"
	"github.com/bbm-runner/bbm-runner/internal/localpg"
	"github.com/bbm-runner/bbm-runner/schema"
)

// demoCleanup bounds the removal of what the demo made on a server that stays.
const demoCleanup = 30 * time.Second

// onServer calls tell with a server to connect to: the one that the user named, else one of its own that ends afterwards.
func (d *demo) onServer(ctx context.Context, tell func() error) (err error) {
	if d.config.DatabaseURL != "" {
		d.url = d.config.DatabaseURL
		return tell()
	}
	server, err := localpg.Start(ctx, localpg.Options{Settings: map[string]string{"max_wal_size": "4GB", "shared_buffers": "256MB"}})
	if errors.Is(err, localpg.ErrNotFound) {
		return inputf("%w, or name a server: %s demo --database-url URL", err, d.Name)
	}
	if err != nil {
		return fmt.Errorf("start a server for the demo: %w", err)
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	d.say("Started a throwaway PostgreSQL %d from %s", server.Version(), server.BinDir())
	d.url = server.URL("postgres")
	d.config.DatabaseURL = d.url
	return tell()
}

// inSchema makes a schema for the demo's tables, and our own where there is none, and removes afterwards what it made.
func (d *demo) inSchema(ctx context.Context, conn *pgx.Conn, tell func() error) (err error) {
	d.control = &control.Control{Conn: conn, ChangedBy: changedBy()}
	suffix := strings.ToLower(rand.Text()[:6])
	d.schema, d.name = "bbm_demo_"+suffix, "demo_"+suffix

	var installed bool
	if err := conn.QueryRow(ctx, `SELECT to_regnamespace('bbm') IS NOT NULL`).Scan(&installed); err != nil {
		return err
	}
	// The context may be over when there is something to remove.
	cleanup := func(what string, do func(context.Context) error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), demoCleanup)
		defer cancel()
		if cleanupErr := do(ctx); cleanupErr != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", what, cleanupErr))
		}
	}
	if installed {
		if err := d.requireOpenFleet(ctx); err != nil {
			return err
		}
		defer cleanup("forget the demo's migration", d.forget)
	} else {
		connConfig, err := d.connConfig()
		if err != nil {
			return err
		}
		if _, err := schema.Up(ctx, connConfig); err != nil {
			return err
		}
		defer cleanup("remove the schema bbm", func(ctx context.Context) error {
			_, err := conn.Exec(ctx, `DROP SCHEMA bbm CASCADE`)
			return err
		})
		if err := d.control.SetEnabled(ctx, true, "demo"); err != nil {
			return err
		}
	}
	if _, err := conn.Exec(ctx, `CREATE SCHEMA `+d.schema); err != nil {
		return err
	}
	defer cleanup("remove the demo's tables", func(ctx context.Context) error {
		_, err := conn.Exec(ctx, `DROP SCHEMA `+d.schema+` CASCADE`)
		return err
	})
	return tell()
}

// requireOpenFleet refuses to open a gate that others have closed: it would open for their migrations too.
func (d *demo) requireOpenFleet(ctx context.Context) error {
	if err := d.control.CheckSchema(ctx); err != nil {
		return err
	}
	fleet, err := d.control.Fleet(ctx)
	if err != nil {
		return err
	}
	if !fleet.ExecutionEnabled {
		return inputf("the fleet of this database is disabled, and the demo does not enable it for others: use another database")
	}
	return nil
}

// forget cancels and deletes the demo's migration, where it was enqueued.
func (d *demo) forget(ctx context.Context) error {
	migrations, err := d.control.Status(ctx, d.name)
	if errors.Is(err, control.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if status := migrations[0].Status; status != "finished" && status != "cancelled" {
		if err := d.control.Cancel(ctx, d.name, "end of the demo"); err != nil {
			return err
		}
	}
	return d.control.Delete(ctx, d.name)
}
