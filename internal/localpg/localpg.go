// Package localpg runs a throwaway PostgreSQL server from the machine's own binaries, for the demo and for
// tests: a cluster in a temporary folder, on a free loopback port, that ends and vanishes with its maker. The
// data of a kept cluster stay.
//
// Connections are by TCP on 127.0.0.1 with a random password: a Unix socket's path may be no longer than 107
// bytes, which a temporary folder easily is, and trust on loopback would admit every user of the machine.
package localpg

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	superuser = "postgres"

	// startTimeout bounds a start or restart, crash recovery included; a slow disk needs some ten seconds.
	startTimeout = 2 * time.Minute

	// stopTimeout is how long a shutdown may take before the server is killed; its data are thrown away.
	stopTimeout = 30 * time.Second
)

// Options are the settings of Start. Its zero value is usable.
type Options struct {
	// BinDir is the folder with postgres and initdb; default: as Find finds it.
	BinDir string
	// Dir is the folder in which the cluster's temporary folder is made; default os.TempDir(), or /tmp where
	// that is closed to the user the server runs as.
	Dir string
	// Kept is the folder of a cluster that outlives its server, for data that take long to load: made by the first
	// Start, used again by later ones. One server at a time; ErrInUse otherwise. Default none: a temporary one, by Dir.
	Kept string
	// Files are put into the data folder of a new cluster, by their names there, in the place of what initdb made: certificates, pg_hba.conf.
	Files map[string][]byte
	// Settings are server settings such as max_connections; default none, that is PostgreSQL's own.
	Settings map[string]string
}

// Server is a running server. Its methods may be called from several goroutines, and more than once.
type Server struct {
	binDir   string
	major    int
	settings map[string]string
	files    map[string][]byte
	password string
	who      *owner
	folder   *folder
	logFile  *os.File

	mu      sync.Mutex // held while the server is started or ended
	port    int
	process *process
	stopped bool
}

// Start makes a cluster and starts a server on it. It returns when the server accepts connections; ctx bounds
// the start alone, and the server runs until Stop. As root the server runs as the OS user postgres, else
// nobody. It returns ErrNotFound, wrapped, when there are no binaries.
func Start(ctx context.Context, options Options) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	binDir, major, err := Find(ctx, options.BinDir)
	if err != nil {
		return nil, err
	}
	who, err := findOwner()
	if err != nil {
		return nil, err
	}
	folder, err := openFolder(options, who)
	if err != nil {
		return nil, err
	}

	s := &Server{
		binDir:   binDir,
		major:    major,
		settings: options.Settings,
		files:    options.Files,
		password: rand.Text(),
		who:      who,
		folder:   folder,
	}
	if err := s.createOnce(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	if err := s.startOnFreePort(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// URL returns the connection string of a database, as superuser. The port and password never change.
func (s *Server) URL(database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(superuser, s.password),
		Host:     s.address(),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Version returns the server's major version, such as 15.
func (s *Server) Version() int { return s.major }

// BinDir returns the folder of the server's binaries.
func (s *Server) BinDir() string { return s.binDir }

// Crash ends the server as a crash would: every session is cut off at once, nothing is flushed, and the next
// start recovers from the write-ahead log. It does nothing when the server is down.
func (s *Server) Crash() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(syscall.SIGQUIT)
}

// Restart starts the server again on its data and port, ending it first (fast) if it runs. It returns when
// the server accepts connections, so after crash recovery. It is an error after Stop.
func (s *Server) Restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return errors.New("restart PostgreSQL: it has been stopped and its data removed")
	}
	s.end(syscall.SIGINT)
	return s.startAgain(ctx)
}

// Stop shuts the server down (fast: open transactions are aborted) and removes its folder, unless that is kept.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	s.stopped = true
	s.end(syscall.SIGINT)
	if s.logFile != nil {
		_ = s.logFile.Close()
	}
	return s.folder.remove()
}

func (s *Server) end(signal syscall.Signal) {
	if s.process == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	s.process.end(ctx, signal)
	s.process = nil
}

func (s *Server) dataDir() string { return filepath.Join(s.folder.path, "data") }

// LogPath is the file that the server logs to; it vanishes with the server.
func (s *Server) LogPath() string { return filepath.Join(s.folder.path, "server.log") }

func (s *Server) address() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }
