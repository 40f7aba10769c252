package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/schema"
)

// vetVariable is what sqlc.yaml takes the database's URL from.
const vetVariable = "BBM_VET_DATABASE_URL"

// vet runs the command with a database that has our schema, on the server that the tests would take.
func vet(ctx context.Context, command []string) (err error) {
	server, err := dbtest.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	databaseURL, drop, err := makeVetDatabase(ctx, server.URL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drop()) }()

	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), vetVariable+"="+databaseURL)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", command[0], err)
	}
	return nil
}

// makeVetDatabase makes a database of its own, so that several runs on one server do not meet. Its plans are to avoid full scans, since its
// tables are empty: a rule of sqlc.yaml looks at what such a plan costs where it cannot avoid one.
func makeVetDatabase(ctx context.Context, serverURL string) (databaseURL string, drop func() error, err error) {
	u, err := url.Parse(serverURL)
	if err != nil {
		return "", nil, errors.New(dbtest.URLVariable + " is not a URL")
	}
	admin, err := pgx.ParseConfig(serverURL)
	if err != nil {
		return "", nil, err
	}
	name := fmt.Sprintf("bbm_vet_%d", os.Getpid())
	u.Path = "/" + name
	if err := execute(ctx, admin, "CREATE DATABASE "+name+" TEMPLATE template0", "ALTER DATABASE "+name+" SET enable_seqscan = off"); err != nil {
		return "", nil, fmt.Errorf("make database: %w", err)
	}
	drop = func() error {
		return execute(context.WithoutCancel(ctx), admin, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
	}
	config := admin.Copy()
	config.Database = name
	if _, err := schema.Up(ctx, config); err != nil {
		return "", nil, errors.Join(err, drop())
	}
	return u.String(), drop, nil
}

func execute(ctx context.Context, config *pgx.ConnConfig, statements ...string) (err error) {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}
