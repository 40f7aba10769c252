package runner

import (
	"context"
	"fmt"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// sessionSettings are what a work's header may set for its statements.
type sessionSettings struct{ searchPath, timeZone string }

// setSession pins what the work's header names, where the session has something else.
func (e *Executor) setSession(ctx context.Context, w *work.Work) error {
	wanted := sessionSettings{searchPath: w.SearchPathSetting(), timeZone: w.TimeZoneSetting()}
	if e.sessionOf == wanted {
		return nil
	}
	_, err := e.queries.SessionSet(ctx, e.conn, dbgen.SessionSetParams{SearchPath: wanted.searchPath, TimeZone: wanted.timeZone})
	if err != nil {
		return fmt.Errorf("set search_path and TimeZone: %w", err)
	}
	e.sessionOf = wanted
	return nil
}
