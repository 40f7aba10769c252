package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/localpg"
)

// binVariable names the folder of the server binaries to use, as in the tests.
const binVariable = "BBM_TEST_POSTGRES_BIN"

// baseSettings are stated in the report. All others are PostgreSQL's defaults; fsync and synchronous_commit are on.
var baseSettings = map[string]string{
	"shared_buffers":     "1GB", // the table and its copy fit at a million rows; the variant "spilled" is the contrast
	"max_wal_size":       "8GB",
	"min_wal_size":       "4GB", // segments of earlier runs are used again: making new ones would slow the first runs down
	"checkpoint_timeout": "1h",  // none in a run: each begins behind one
	"autovacuum":         "off", // it would meet one contender and not the other
}

// statisticsLibrary is there for the shares alone: nothing is tracked while times are taken.
var statisticsLibrary = map[string]string{
	"shared_preload_libraries":          "pg_stat_statements",
	"pg_stat_statements.track":          "none",
	"pg_stat_statements.track_planning": "on",
}

// server is a throwaway server with bbm-runner's schema in it, and a connection to look after the tables.
type server struct {
	*localpg.Server
	settings   map[string]string
	conn       *pgx.Conn
	postmaster int
	statistics error // why pg_stat_statements cannot be used; nil: it can
}

// startServer starts a server with the base settings and these.
func startServer(ctx context.Context, binary *binary, settings map[string]string) (_ *server, err error) {
	s := &server{settings: maps.Clone(baseSettings)}
	maps.Copy(s.settings, settings)
	withLibrary := maps.Clone(s.settings)
	maps.Copy(withLibrary, statisticsLibrary)
	s.Server, err = localpg.Start(ctx, localpg.Options{BinDir: os.Getenv(binVariable), Settings: withLibrary})
	if err != nil && strings.Contains(err.Error(), "pg_stat_statements") {
		s.statistics = errors.New("the server's installation lacks pg_stat_statements")
		s.Server, err = localpg.Start(ctx, localpg.Options{BinDir: os.Getenv(binVariable), Settings: s.settings})
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close(ctx))
		}
	}()
	return s, s.prepare(ctx, binary)
}

func (s *server) prepare(ctx context.Context, binary *binary) (err error) {
	url := s.URL("postgres")
	if s.conn, err = pgx.Connect(ctx, url); err != nil {
		return err
	}
	if s.postmaster, err = s.findPostmaster(ctx); err != nil {
		return err
	}
	if s.statistics == nil {
		if _, err := s.conn.Exec(ctx, `CREATE EXTENSION pg_stat_statements`); err != nil {
			s.statistics = err
		}
	}
	for _, args := range [][]string{{"schema", "up"}, {"enable"}, {"set", "--fleet", "slots=2"}} {
		if err := binary.call(ctx, url, args...); err != nil {
			return err
		}
	}
	return execAll(ctx, s.conn, []string{
		`SET synchronize_seqscans = off`, // a restored table has its template's order, from the first row
		tellEnd,
		`CREATE TRIGGER tell_end AFTER UPDATE OF status ON bbm.batched_background_migrations FOR EACH ROW
		WHEN (NEW.status IN ('finished', 'failed')) EXECUTE FUNCTION public.tell_end()`,
		`LISTEN migration_ended`,
	})
}

// tellEnd sends the end of a migration once its commit is on disk, so that nobody has to ask for it, which would take time from what is timed.
const tellEnd = `CREATE FUNCTION public.tell_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('migration_ended', NEW.name || ' ' || NEW.status || ' ' || coalesce(NEW.failure_message, ''));
    RETURN NULL;
END $$`

// findPostmaster finds the parent of our backend; 0 where the platform does not tell.
func (s *server) findPostmaster(ctx context.Context) (int, error) {
	var backend int
	if err := s.conn.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&backend); err != nil {
		return 0, err
	}
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(backend), "stat"))
	if err != nil {
		return 0, nil
	}
	stat, _ := readStat(string(text))
	return stat.parent, nil
}

func (s *server) close(ctx context.Context) error {
	if s.conn != nil {
		_ = s.conn.Close(context.WithoutCancel(ctx))
	}
	return s.Stop()
}

// binary is the program under test, and the folder with its work file.
type binary struct {
	path, folder string
	version      string
}

// buildBinary builds the program as it is in this checkout.
func buildBinary(ctx context.Context, folder string) (*binary, error) {
	b := &binary{path: filepath.Join(folder, "bbm-runner"), folder: folder}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", b.path, "github.com/bbm-runner/bbm-runner/cmd/bbm-runner")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build bbm-runner: %w: %s", err, out)
	}
	out, err := exec.CommandContext(ctx, b.path, "version").Output()
	if err != nil {
		return nil, fmt.Errorf("ask bbm-runner for its version: %w", err)
	}
	b.version = strings.Join(strings.Fields(string(out)), " ")
	return b, nil
}

// command is one call of the program, with nothing but our settings in its environment.
func (b *binary) command(ctx context.Context, url string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, b.path, append([]string{"--works", b.folder, "--log-level", "warn"}, args...)...)
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "BBM_") && !strings.HasPrefix(variable, "PG") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, "BBM_DATABASE_URL="+url, "BBM_ENABLED=true")
	return cmd
}

// call runs one of the short commands.
func (b *binary) call(ctx context.Context, url string, args ...string) error {
	if out, err := b.command(ctx, url, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("bbm-runner %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
