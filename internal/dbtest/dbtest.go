package dbtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// AnnouncedVariable is set by command serve, which has told already which server the tests use.
const AnnouncedVariable = "BBM_TEST_ANNOUNCED"

// cleanupTimeout bounds the dropping of a database and the closing of a connection after a test, whose own context is over.
const cleanupTimeout = time.Minute

// session is the state of this test binary: its server and run are made for the first test that asks for a database.
type session struct {
	mu     sync.Mutex
	main   bool
	server *Server
	run    *run
	err    error
}

var state session

// Main runs a package's tests, ends the server that was started for them, and exits.
func Main(m *testing.M) {
	state.mu.Lock()
	state.main = true
	state.mu.Unlock()
	code := m.Run()
	if err := state.close(); err != nil {
		fmt.Fprintln(os.Stderr, "dbtest:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// New returns the URL of a database with our schema, which is dropped when the test ends.
func New(t testing.TB) string {
	t.Helper()
	r := state.open(t)
	return create(t, r, r.template)
}

// NewEmpty returns the URL of a database without our schema, which is dropped when the test ends.
func NewEmpty(t testing.TB) string {
	t.Helper()
	return create(t, state.open(t), "template0")
}

// Connect opens a connection that is closed when the test ends.
func Connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatalf("connect to the test database: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		// A connection that the test has broken is closed as well as it can be.
		_ = conn.Close(ctx)
	})
	return conn
}

func create(t testing.TB, r *run, template string) string {
	t.Helper()
	name, err := r.create(t.Context(), template)
	if err != nil {
		t.Fatalf("make a test database: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		if err := r.drop(ctx, name); err != nil {
			t.Errorf("drop the test database: %v", err)
		}
	})
	url, err := r.databaseURL(name)
	if err != nil {
		t.Fatal(err)
	}
	return url
}

// open returns this binary's run. A failure is kept: each test then fails at once and for the same reason.
func (s *session) open(t testing.TB) *run {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.main {
		t.Fatal("dbtest: the package lacks func TestMain(m *testing.M) { dbtest.Main(m) }")
	}
	if s.run == nil && s.err == nil {
		s.err = s.start(context.Background())
	}
	if s.err != nil {
		t.Fatalf("dbtest: %v", s.err)
	}
	return s.run
}

func (s *session) start(ctx context.Context) (err error) {
	s.server, err = Open(ctx)
	if err != nil {
		return err
	}
	if os.Getenv(AnnouncedVariable) == "" {
		fmt.Fprintln(os.Stderr, "test databases:", s.server.Source)
	}
	s.run, err = newRun(ctx, s.server.URL)
	return err
}

func (s *session) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	if s.run != nil {
		errs = append(errs, s.run.close(context.Background()))
	}
	if s.server != nil {
		errs = append(errs, s.server.Stop())
	}
	return errors.Join(errs...)
}
