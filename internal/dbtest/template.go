package dbtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/schema"
)

// templateLock is the advisory lock, in the database that the URL names, under which the template is made: "bbmt" in ASCII.
const templateLock = 0x62626d74

// ensureTemplate makes the database that tests are copied from, unless it is there, and returns its name. The name holds a
// hash of the schema's files, so that test binaries and runs share one, and none is ever stale.
func ensureTemplate(ctx context.Context, url string) (name string, err error) {
	name, err = templateName()
	if err != nil {
		return "", err
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return "", err
	}
	// The lock ends with the connection.
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", templateLock); err != nil {
		return "", fmt.Errorf("lock template: %w", err)
	}
	var exists bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists); err != nil {
		return "", fmt.Errorf("look for template: %w", err)
	}
	if exists {
		return name, nil
	}
	return name, makeTemplate(ctx, conn, name)
}

// makeTemplate builds under another name and renames at the end: a half-built template is never taken for one. Nobody may
// connect to the finished one, as a database that is in use cannot be copied.
func makeTemplate(ctx context.Context, conn *pgx.Conn, name string) error {
	draft := name + "_draft"
	if err := execAll(ctx, conn,
		"DROP DATABASE IF EXISTS "+quote(draft)+" WITH (FORCE)",
		"CREATE DATABASE "+quote(draft)+" TEMPLATE template0",
	); err != nil {
		return fmt.Errorf("make template: %w", err)
	}
	config := conn.Config().Copy()
	config.Database = draft
	if _, err := schema.Up(ctx, config); err != nil {
		return fmt.Errorf("make template: %w", err)
	}
	if err := execAll(ctx, conn,
		"ALTER DATABASE "+quote(draft)+" ALLOW_CONNECTIONS false",
		"ALTER DATABASE "+quote(draft)+" RENAME TO "+quote(name),
	); err != nil {
		return fmt.Errorf("finish template: %w", err)
	}
	return nil
}

func templateName() (string, error) {
	hash := sha256.New()
	err := fs.WalkDir(schema.FS, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := schema.FS.ReadFile(path)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(hash, "%s %d\n%s", path, len(text), text)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("hash schema files: %w", err)
	}
	return "bbm_template_" + hex.EncodeToString(hash.Sum(nil))[:12], nil
}

func execAll(ctx context.Context, conn *pgx.Conn, statements ...string) error {
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", strings.SplitN(statement, " \"", 2)[0], err)
		}
	}
	return nil
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
