// Package schema embeds the tables and functions of bbm-runner and applies them with goose.
//
// Everything lives in the PostgreSQL schema "bbm", goose's own version table included, so that an application's goose
// table is never touched. [Up] and [Down] may run in several processes at once: they take turns.
package schema

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// FS holds the goose files.
//
//go:embed 0*.sql
var FS embed.FS

const (
	versionTable = "bbm.goose_db_version"

	// lockID is goose's advisory lock for this schema: "bbm" in ASCII. An application's own goose has another, so that neither waits for the other.
	lockID = 0x62626d

	// Several processes may start at once in a deploy: each looks once a second, for five minutes.
	lockRetrySeconds = 1
	lockRetries      = 300
)

// Up brings the schema to the latest version and returns the files that it applied, in order; none when it is there already.
//
// It waits for a lock in short turns, for some minutes at most, and gives each function in tell a
// sentence on who holds it, each time.
func Up(ctx context.Context, config *pgx.ConnConfig, tell ...func(string)) ([]string, error) {
	files, err := apply(ctx, config, tell, func(p *goose.Provider) ([]*goose.MigrationResult, error) { return p.Up(ctx) })
	if err != nil {
		return nil, fmt.Errorf("apply schema: %w", err)
	}
	return files, nil
}

// Down removes everything that [Up] made, the history of every migration included, and returns the files that it undid. The empty
// PostgreSQL schema and goose's version table stay.
//
// It waits for locks as [Up] does.
func Down(ctx context.Context, config *pgx.ConnConfig, tell ...func(string)) ([]string, error) {
	files, err := apply(ctx, config, tell, func(p *goose.Provider) ([]*goose.MigrationResult, error) { return p.DownTo(ctx, 0) })
	if err != nil {
		return nil, fmt.Errorf("remove schema: %w", err)
	}
	return files, nil
}

// Latest returns the version that this binary serves: the number of the last embedded file.
func Latest() (int64, error) {
	entries, err := FS.ReadDir(".")
	if err != nil {
		return 0, err
	}
	return goose.NumericComponent(entries[len(entries)-1].Name())
}

// ErrVersion is returned when a database has tables of another version than this binary serves.
var ErrVersion = errors.New("another version of the tables of bbm-runner is needed")

// versionError says what to do in place of what is wrong.
type versionError string

func (e versionError) Error() string        { return string(e) }
func (e versionError) Is(target error) bool { return target == ErrVersion }

// CheckVersion returns nil when the installed version is the one that this binary serves; else an [ErrVersion] whose message names both and what mends
// it. A binary serves one version alone: what a newer one means by a row, an older binary cannot know.
func CheckVersion(installed int64) error {
	served, err := Latest()
	switch {
	case err != nil:
		return fmt.Errorf("read the embedded schema: %w", err)
	case installed == 0:
		return versionError("this database lacks the tables of bbm-runner; run: bbm-runner schema up")
	case installed < served:
		return versionError(fmt.Sprintf("the tables of bbm-runner are at version %d, and this program needs %d; run: bbm-runner schema up", installed, served))
	case installed > served:
		return versionError(fmt.Sprintf("the tables of bbm-runner are at version %d, newer than the %d of this program; install a newer bbm-runner", installed, served))
	}
	return nil
}

// apply runs fn under goose's session lock. The lock is taken here and not by the provider, which makes its version table before it
// locks: four processes on an empty database would trip over each other.
func apply(
	ctx context.Context, config *pgx.ConnConfig, tell []func(string), fn func(*goose.Provider) ([]*goose.MigrationResult, error),
) (_ []string, err error) {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(lockID), lock.WithLockTimeout(lockRetrySeconds, lockRetries))
	if err != nil {
		return nil, err
	}
	db := stdlib.OpenDB(*config, stdlib.OptionAfterConnect(limitWaits))
	defer func() { err = errors.Join(err, db.Close()) }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := locker.SessionLock(ctx, conn); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, locker.SessionUnlock(context.WithoutCancel(ctx), conn)) }()

	if err := createSchema(ctx, conn); err != nil {
		return nil, err
	}
	if err := checkOwner(ctx, conn); err != nil {
		return nil, err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, FS,
		goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return nil, err
	}
	results, err := patiently(ctx, conn, tell, func() ([]*goose.MigrationResult, error) { return fn(provider) })
	if err != nil {
		return nil, err
	}
	files := make([]string, 0, len(results))
	for _, r := range results {
		files = append(files, r.Source.Path)
	}
	return files, nil
}

// createSchema looks first: CREATE SCHEMA IF NOT EXISTS asks for the right to create one even where it exists.
func createSchema(ctx context.Context, conn *sql.Conn) error {
	var exists bool
	err := conn.QueryRowContext(ctx, "SELECT to_regnamespace('bbm') IS NOT NULL").Scan(&exists)
	if err == nil && !exists {
		_, err = conn.ExecContext(ctx, "CREATE SCHEMA bbm")
	}
	if err != nil {
		return fmt.Errorf("create schema bbm: %w", err)
	}
	return nil
}
