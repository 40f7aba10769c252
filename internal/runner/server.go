package runner

import (
	"context"
	"errors"
	"fmt"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/schema"
)

// errStandby is why a runner waits on a server that follows another one, in a failover or by a wrong address.
var errStandby = errors.New("the server is read-only (a standby): waiting for a primary; where a primary may move, " +
	"the connection string names all hosts and target_session_attrs=read-write")

// checkServer makes sure that this binary can serve here, before it announces itself.
func (e *Executor) checkServer(ctx context.Context) error {
	server, err := e.queries.ServerCheck(ctx, e.conn)
	if err != nil {
		return lost(fmt.Errorf("check server: %w", err))
	}
	return e.judge(server)
}

// unservedError ends the session with a server that cannot be served now.
type unservedError struct{ why error }

func (e *unservedError) Error() string { return e.why.Error() }
func (e *unservedError) Unwrap() error { return e.why }

// judge returns an error that ends the session where the server cannot be served: without a session there is neither a slot nor an announcement that
// others would wait for. A daemon then looks again and again, in a deploy for one; a run until idle ends where the tables are of another version.
func (e *Executor) judge(server dbgen.ServerCheckRow) error {
	if server.IsStandby {
		return &unservedError{errStandby}
	}
	err := schema.CheckVersion(server.SchemaVersion)
	if errors.Is(err, schema.ErrVersion) && !e.config.UntilIdle {
		return &unservedError{err}
	}
	return err
}
