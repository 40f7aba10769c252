package dbtest

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/jackc/pgx/v5"
)

// The variables that choose the server; the package comment tells how.
const (
	URLVariable    = "BBM_TEST_DATABASE_URL"
	BinVariable    = "BBM_TEST_POSTGRES_BIN"
	ImageVariable  = "BBM_TEST_POSTGRES_IMAGE"
	SourceVariable = "BBM_TEST_SOURCE"
)

// Server is a server on which tests may make databases.
type Server struct {
	// URL is the connection string of a database on it from which others can be made.
	URL string
	// Source is one line for people: where the server comes from, and its version.
	Source string

	stop func() error
}

// Stop ends the server and removes what it left behind; a server that was running before stays as it is.
func (s *Server) Stop() error {
	if s.stop == nil {
		return nil
	}
	return s.stop()
}

// serverSettings suit a throwaway server under many tests at once: connections for two cores' or for thirty-two cores'
// worth of parallel tests, and no care for a power cut.
var serverSettings = map[string]string{
	"max_connections":     "400",
	"fsync":               "off",
	"full_page_writes":    "off",
	"checkpoint_timeout":  "1h",
	"max_wal_size":        "4GB",
	"client_min_messages": "warning",
}

// unavailableError is returned when a source is not there, so that the next is tried; a source that is there but does not
// work gives another error.
type unavailableError struct {
	reason string
	cause  error
}

func (e *unavailableError) Error() string { return fmt.Sprintf("%s: %v", e.reason, e.cause) }
func (e *unavailableError) Unwrap() error { return e.cause }

// Open returns the server that the environment chooses, starting it where needed. ctx bounds the start alone.
func Open(ctx context.Context) (*Server, error) {
	server, err := choose(ctx)
	if err != nil {
		return nil, fmt.Errorf("find a PostgreSQL server for tests: %w", err)
	}
	version, err := serverVersion(ctx, server.URL)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("find a PostgreSQL server for tests: %s: %w", server.Source, err), server.Stop())
	}
	server.Source = fmt.Sprintf("PostgreSQL %s, %s", version, server.Source)
	return server, nil
}

func choose(ctx context.Context) (*Server, error) {
	url, bin, image := os.Getenv(URLVariable), os.Getenv(BinVariable), os.Getenv(ImageVariable)
	switch only := os.Getenv(SourceVariable); {
	case only == "url" && url == "":
		return nil, fmt.Errorf("%s is url, but %s is not set", SourceVariable, URLVariable)
	case only == "url", only == "" && url != "":
		return &Server{URL: url, Source: "from " + URLVariable}, nil
	case only == "local", only == "" && bin != "":
		return openLocal(ctx, bin)
	case only == "docker", only == "" && image != "":
		return openDocker(ctx, image)
	case only != "":
		return nil, fmt.Errorf("%s is %q; it may be url, docker or local", SourceVariable, only)
	}

	server, err := openDocker(ctx, "")
	var unavailable *unavailableError
	if !errors.As(err, &unavailable) {
		return server, err
	}
	server, err = openLocal(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("%w; and %w", unavailable, err)
	}
	server.Source += fmt.Sprintf(" (%s)", unavailable.reason)
	return server, nil
}

func serverVersion(ctx context.Context, url string) (version string, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	err = conn.QueryRow(ctx, "SELECT split_part(current_setting('server_version'), ' ', 1)").Scan(&version)
	return version, err
}
