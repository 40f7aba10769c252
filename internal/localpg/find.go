package localpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// ErrNotFound is returned when no folder with PostgreSQL's server binaries (postgres and initdb) is found.
var ErrNotFound = errors.New("PostgreSQL's server binaries were not found: install them " +
	"(Debian and Ubuntu: apt install postgresql; macOS: brew install postgresql; Fedora and RHEL: dnf install postgresql-server)")

// wellKnown lists where packages put server binaries that they keep out of PATH: Debian, PGDG on
// RHEL, SUSE, Homebrew on both kinds of Mac, and Postgres.app.
var wellKnown = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/usr/lib/postgresql*/bin",
	"/opt/homebrew/opt/postgresql*/bin",
	"/usr/local/opt/postgresql*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
}

// Find returns the folder of the machine's PostgreSQL server binaries, and their major version. It looks
// in explicit alone where that is given; else in PATH, where pg_config points, and at last for the highest
// version among the places where packages put them. It returns ErrNotFound, wrapped, when there are none.
func Find(ctx context.Context, explicit string) (dir string, major int, err error) {
	if explicit != "" {
		// Absolute, as the server is started with a working folder of its own.
		dir, err = filepath.Abs(explicit)
		if err != nil {
			return "", 0, fmt.Errorf("resolve the folder of PostgreSQL's binaries: %w", err)
		}
		major, err = majorVersion(ctx, dir)
		if err != nil {
			return "", 0, fmt.Errorf("folder %s: %w: %w", dir, err, ErrNotFound)
		}
		return dir, major, nil
	}

	for _, dir := range []string{fromPath(), fromPgConfig(ctx)} {
		if major, err := majorVersion(ctx, dir); dir != "" && err == nil {
			return dir, major, nil
		}
	}
	if dir, major = highest(ctx, wellKnown); dir != "" {
		return dir, major, nil
	}
	return "", 0, ErrNotFound
}

func fromPath() string {
	postgres, err := exec.LookPath("postgres")
	if err != nil {
		return ""
	}
	dir, err := filepath.Abs(filepath.Dir(postgres))
	if err != nil {
		return ""
	}
	return dir
}

// fromPgConfig asks pg_config, which development packages install: the folder may lack a server.
func fromPgConfig(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

func highest(ctx context.Context, patterns []string) (dir string, major int) {
	for _, pattern := range patterns {
		// Glob's only error is a malformed pattern.
		candidates, _ := filepath.Glob(pattern)
		for _, candidate := range candidates {
			if version, err := majorVersion(ctx, candidate); err == nil && version > major {
				dir, major = candidate, version
			}
		}
	}
	return dir, major
}

// versionNumber matches 15 in "postgres (PostgreSQL) 15.12 (Debian 15.12-0)" and 19 in "… 19devel".
var versionNumber = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// majorVersion asks the server in dir for its version; an error means that dir holds no usable server.
func majorVersion(ctx context.Context, dir string) (int, error) {
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return 0, errors.New("no initdb in it")
	}
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("run postgres --version: %w", err)
	}
	match := versionNumber.FindSubmatch(out)
	if match == nil {
		return 0, fmt.Errorf("unknown version %q", strings.TrimSpace(string(out)))
	}
	return strconv.Atoi(string(match[1]))
}
