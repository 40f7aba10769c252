package runner

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/session"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// A function that a work calls may set what it likes for its session. So a session is made as new
// before each look: what is behind one job reaches no other. Within a job the settings that decide
// what keys and statements mean are looked at behind each COMMIT. Both travel with what is sent
// anyway.

// leftovers drop what a session keeps besides settings. DISCARD ALL would give up our slot and what
// the driver has prepared.
var leftovers = []string{"CLOSE ALL", "UNLISTEN *", "DISCARD TEMP"}

// pinned is how the session is pinned.
type pinned struct {
	searchPath, timeZone string                         // that the work's header names; empty: none so far
	settings             dbgen.SessionListChangedParams // as the server writes them
}

// sessionConfig is what a session of an executor may cost others.
func (e *Executor) sessionConfig() session.Config {
	return session.Config{
		LockTimeout:      e.config.LockTimeout,
		StatementTimeout: e.config.StatementTimeout,
		IdleTimeout:      e.config.IdleTimeout,
		CommitGrace:      min(e.config.ShutdownGrace, commitGrace),
	}
}

// pins are those of the session as it is to be: with what the header of the last work names.
func (e *Executor) pins() dbgen.SessionPinParams {
	return e.sessionConfig().Pins(e.pinned.searchPath, e.pinned.timeZone)
}

// notePinned keeps what SessionPin has returned.
func (e *Executor) notePinned(rows []dbgen.SessionPinRow) {
	e.pinned.settings = dbgen.SessionListChangedParams{}
	for _, row := range rows {
		e.pinned.settings.Names = append(e.pinned.settings.Names, row.Name)
		e.pinned.settings.SettingValues = append(e.pinned.settings.SettingValues, row.Value)
	}
}

// applicationName is what the server's views show while a migration is executed.
func (e *Executor) applicationName(migration string) string {
	return e.conn.Config().RuntimeParams["application_name"] + " " + migration
}

// pinAgain sets everything again that the session is pinned to.
func (e *Executor) pinAgain(ctx context.Context) error {
	rows, err := e.queries.SessionPin(ctx, e.conn, e.pins())
	if err != nil {
		return lost(fmt.Errorf("pin session: %w", err)) // a new one is
	}
	e.notePinned(rows)
	wait := e.lockWait
	e.lockWait = e.config.LockTimeout // as is pinned
	return e.waitForLocks(ctx, wait)
}

// setSession pins what the work's header names, where the session has something else.
func (e *Executor) setSession(ctx context.Context, w *work.Work) error {
	path, zone := w.SearchPathSetting(), w.TimeZoneSetting()
	if e.pinned.searchPath == path && e.pinned.timeZone == zone {
		return nil
	}
	e.pinned.searchPath, e.pinned.timeZone = path, zone
	return e.pinAgain(ctx)
}

// queueRenewal makes the session as new at the head of a pipeline. asksForLocks tells
// [Executor.readRenewal] that it asks for advisory locks which a work has left: after one had the
// chance, and seldom, since that reads the whole lock table.
func (e *Executor) queueRenewal(p *pipeline) (asksForLocks bool) {
	for _, statement := range session.OwnRole {
		p.batch.Queue(statement)
	}
	p.batch.Queue("RESET ALL")
	p.batch.Queue(session.SafePath)
	_, _ = e.queries.SessionPin(context.Background(), p.queue(), e.pins())
	for _, statement := range leftovers {
		p.batch.Queue(statement)
	}
	_, _ = e.queries.SessionListPrepared(context.Background(), p.queue())
	asksForLocks = e.mayHoldLocks && (!e.isBusy || time.Since(e.askedForLocksAt) >= e.config.PollInterval)
	if asksForLocks {
		_, _ = e.queries.SessionHoldsForeignLocks(context.Background(), p.queue())
	}
	return asksForLocks
}

// remains are what a work has left in the session that is not dropped by the way.
type remains struct {
	prepared   []string // statements, by name
	holdsLocks bool     // advisory ones
}

// readRenewal reads what became of it.
func (e *Executor) readRenewal(ctx context.Context, p *pipeline, asksForLocks bool) (left remains, err error) {
	for range len(session.OwnRole) + 2 {
		if _, err := p.results.Exec(); err != nil {
			return left, fmt.Errorf("reset session: %w", err)
		}
	}
	rows, err := e.queries.SessionPin(ctx, p.replay(), e.pins())
	if err != nil {
		return left, fmt.Errorf("pin session: %w", err)
	}
	e.notePinned(rows)
	for range leftovers {
		if _, err := p.results.Exec(); err != nil {
			return left, fmt.Errorf("clear session: %w", err)
		}
	}
	if left.prepared, err = e.queries.SessionListPrepared(ctx, p.replay()); err != nil {
		return left, fmt.Errorf("list prepared statements: %w", err)
	}
	if asksForLocks {
		if left.holdsLocks, err = e.queries.SessionHoldsForeignLocks(ctx, p.replay()); err != nil {
			return left, fmt.Errorf("look for locks: %w", err)
		}
		e.mayHoldLocks, e.askedForLocksAt = false, time.Now()
	}
	return left, nil
}

// errLocksLeft ends a session, and with it the locks: one by one they could not be given back,
// since each may be held several times.
var errLocksLeft = errors.New("a work has left advisory locks in its session, which ends for it: let its functions take them by pg_advisory_xact_lock")

// clear drops what a work has left. Its error means that nothing may go on in this session.
func (e *Executor) clear(ctx context.Context, left remains) error {
	if left.holdsLocks {
		return lost(errLocksLeft)
	}
	for _, name := range left.prepared {
		if _, err := e.conn.Exec(ctx, "DEALLOCATE "+pgx.Identifier{name}.Sanitize()); err != nil {
			return lost(fmt.Errorf("drop a statement that a work has prepared: %w", err))
		}
	}
	return nil
}

// changes are the settings of ours that a sub-batch has changed; err is set where they could not be
// looked at.
type changes struct {
	names []string
	err   error
}

// restoreSession answers a sub-batch that has succeeded and left settings of ours changed. Its
// error means that nothing may go on in this session.
func (e *Executor) restoreSession(job *claimedJob, changed changes) error {
	ctx, cancel := context.WithTimeout(context.Background(), recordTimeout)
	defer cancel()
	if !job.hasLeaked {
		job.hasLeaked = true
		job.log.Warn("a setting of the session was changed by the work; it is set back after each sub-batch: let its functions set for the transaction alone (SET LOCAL)",
			"settings", strings.Join(changed.names, ", "), "error", changed.err)
	}
	return e.pinAgain(ctx)
}
