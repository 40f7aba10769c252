package control

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// adoption is the present version of a work that is to replace the pinned one; nil for none.
type adoption struct {
	old, present string  // checksums
	remaining    *string // what the present version says of rows still to be changed
	note         string
}

// examine checks the present version of the work before any lock is taken, since its plan is looked at. The result is nil when nothing is
// to be adopted: nobody asked, it is pinned already, none is pinned yet, or the status is none of those given, which the caller judges.
func (c *Control) examine(ctx context.Context, name string, acceptWork bool, statuses ...dbgen.MigrationStatus) (*adoption, error) {
	if !acceptWork {
		return nil, nil
	}
	m, err := c.get(ctx, name)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(statuses, m.Status) || m.WorkChecksum == nil {
		return nil, nil
	}
	w, err := c.work(m.WorkName)
	if err != nil {
		return nil, err
	}
	present := w.Checksum()
	if present == *m.WorkChecksum {
		return nil, nil
	}
	if !slices.Equal(w.Cursor, m.CursorColumns) {
		return nil, inputf("the present version of work %q has the cursor %s, but migration %q is cut by %s; cancel it and enqueue another",
			w.Name, work.WriteNames(w.Cursor), name, work.WriteNames(m.CursorColumns))
	}
	target, err := work.Resolve(ctx, c.Conn, w)
	if err != nil {
		return nil, err
	}
	if target.Oid != m.TableOid {
		return nil, inputf("the present version of work %q is for %s, but migration %q runs on %s; cancel it and enqueue another",
			w.Name, target.Name, name, m.TableName)
	}
	arguments, err := work.ReadArguments(m.Arguments)
	if err != nil {
		return nil, err
	}
	if _, err := work.CheckWork(ctx, c.Conn, w, target, arguments); err != nil {
		return nil, err
	}
	return &adoption{
		old: *m.WorkChecksum, present: present, remaining: w.RemainingPredicate(),
		note: fmt.Sprintf("adopted the present version of the work (%s → %s)", *m.WorkChecksum, present),
	}, nil
}

// check makes sure, under the lock of the row, that what was examined is still so and that no job runs in the old version.
func (a *adoption) check(ctx context.Context, tx pgx.Tx, m dbgen.Migration) error {
	if a == nil {
		return nil
	}
	if m.WorkChecksum == nil || *m.WorkChecksum != a.old {
		return inputf("another version of the work of migration %q was adopted at the same time; look again", m.Name)
	}
	jobs, err := queries.JobCountRunning(ctx, tx, m.ID)
	if err != nil {
		return fmt.Errorf("count the running jobs of %q: %w", m.Name, err)
	}
	if jobs > 0 {
		return inputf("%d jobs of migration %q still run in the old version; pause it first, and try again when they have stopped", jobs, m.Name)
	}
	return nil
}

// checksum is what to pin; nil for no change.
func (a *adoption) checksum() *string {
	if a == nil {
		return nil
	}
	return &a.present
}

// predicate goes with the checksum.
func (a *adoption) predicate() *string {
	if a == nil {
		return nil
	}
	return a.remaining
}

// reason puts the adoption before the reason that was given.
func (a *adoption) reason(given string) *string {
	switch {
	case a == nil:
		return orNull(given)
	case given == "":
		return &a.note
	}
	whole := a.note + ": " + given
	return &whole
}
