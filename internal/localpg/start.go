package localpg

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// errExited is returned when the server ended before it accepted connections.
var errExited = errors.New("the server exited while starting")

// Ports are taken from below the ranges that systems give to outgoing connections (from 32768 on Linux, from
// 49152 on macOS): none of those can then occupy ours between a crash and a restart.
const (
	lowestPort  = 15000
	highestPort = 32000
)

// pollInterval is the time between two looks whether the server accepts connections yet.
const pollInterval = 20 * time.Millisecond

// create runs initdb. UTF8 with the locale C: every machine has it, and everything sorts alike everywhere.
// --no-sync, as nobody needs this cluster after a power cut.
func (s *Server) create(ctx context.Context) error {
	if err := s.openLog(); err != nil {
		return err
	}
	passwordPath := filepath.Join(s.folder.path, passwordName)
	if err := os.WriteFile(passwordPath, []byte(s.password+"\n"), 0o600); err != nil {
		return fmt.Errorf("write password file: %w", err)
	}
	if !s.folder.kept {
		defer func() { _ = os.Remove(passwordPath) }()
	}
	if err := s.who.give(passwordPath); err != nil {
		return err
	}

	initdb := command(ctx, s.who, s.folder.path, s.logFile, filepath.Join(s.binDir, "initdb"),
		"--pgdata", s.dataDir(),
		"--username", superuser,
		"--pwfile", passwordPath,
		"--auth", "scram-sha-256",
		"--encoding", "UTF8",
		"--locale", "C",
		"--no-sync",
	)
	process, err := startProcess(initdb)
	if err != nil {
		return fmt.Errorf("run %s as %s: %w", initdb.Path, s.who, err)
	}
	<-process.done
	if process.err != nil {
		return withLog(fmt.Errorf("make cluster with initdb: %w", process.err), s.LogPath())
	}
	return s.writeFiles()
}

// writeFiles puts the files of the options into the data folder. The server refuses a key that others may read.
func (s *Server) writeFiles() error {
	for name, content := range s.files {
		path := filepath.Join(s.dataDir(), name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return fmt.Errorf("write %s into the cluster: %w", name, err)
		}
		if err := s.who.give(path); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) openLog() error {
	log, err := os.OpenFile(s.LogPath(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("make server log: %w", err)
	}
	s.logFile = log
	return nil
}

// startOnFreePort starts the server, again on another port when somebody took ours in between.
func (s *Server) startOnFreePort(ctx context.Context) error {
	const attempts = 10
	var err error
	for range attempts {
		s.port, err = freePort(ctx)
		if err != nil {
			return err
		}
		if err = s.launch(ctx); !errors.Is(err, errExited) || portIsFree(ctx, s.port) {
			return err
		}
	}
	return err
}

// startAgain starts the server on the port that it had. After a kill -9 its orphaned backends take a moment to
// notice, and no server starts on the data before they are gone: hence it tries until ctx ends.
func (s *Server) startAgain(ctx context.Context) error {
	for {
		err := s.launch(ctx)
		if !errors.Is(err, errExited) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pollInterval):
		}
	}
}

// launch starts the server process and waits until it accepts connections; it leaves no process behind when
// it fails.
func (s *Server) launch(ctx context.Context) error {
	args := []string{
		"-D", s.dataDir(),
		"-c", "listen_addresses=127.0.0.1",
		"-c", "port=" + strconv.Itoa(s.port),
		"-c", "unix_socket_directories=",
	}
	for _, name := range slices.Sorted(maps.Keys(s.settings)) {
		args = append(args, "-c", name+"="+s.settings[name])
	}
	// Not under ctx, which bounds the start: the server outlives it.
	cmd := command(context.WithoutCancel(ctx), s.who, s.folder.path, s.logFile, filepath.Join(s.binDir, "postgres"), args...)
	process, err := startProcess(cmd)
	if err != nil {
		return fmt.Errorf("run %s: %w", cmd.Path, err)
	}
	s.process = process
	if err := s.awaitReady(ctx); err != nil {
		s.end(syscall.SIGQUIT)
		return withLog(fmt.Errorf("start PostgreSQL %d on port %d: %w", s.major, s.port, err), s.LogPath())
	}
	return nil
}

// awaitReady connects until that succeeds. The random password makes sure that it is our server that answers.
func (s *Server) awaitReady(ctx context.Context) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		conn, err := pgconn.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-s.process.done:
			return errExited
		case <-ctx.Done():
			return fmt.Errorf("wait for connections: %w: %w", ctx.Err(), err)
		case <-ticker.C:
		}
	}
}

func freePort(ctx context.Context) (int, error) {
	const attempts = 100
	for range attempts {
		port := lowestPort + rand.IntN(highestPort-lowestPort)
		if portIsFree(ctx, port) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no free port found between %d and %d", lowestPort, highestPort)
}

func portIsFree(ctx context.Context, port int) bool {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return listener.Close() == nil
}
