package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// adoption is the present version of a work that is to replace the pinned one; nil for none.
type adoption struct {
	old, present string      // checksums
	remaining    *string     // what the present version says of rows still to be changed
	rows         work.RowSet // that it walks over
	work         string
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
		old: *m.WorkChecksum, present: present, remaining: w.RemainingPredicate(), rows: w.RowSet(target), work: w.Name,
		note: fmt.Sprintf("adopted the present version of the work (%s → %s)", *m.WorkChecksum, present),
	}, nil
}

// adopt pins the present version of the work in place of the old one, where there is one to adopt
// and the migration is in one of the statuses: another status is refused by what the caller does
// next.
func (c *Control) adopt(
	ctx context.Context, tx pgx.Tx, name string, a *adoption, reason string, statuses ...dbgen.MigrationStatus,
) error {
	if a == nil {
		return nil
	}
	row, err := queries.MigrationLock(ctx, tx, name)
	if errors.Is(err, pgx.ErrNoRows) {
		return c.notFound(ctx, name)
	}
	if err != nil {
		return fmt.Errorf("lock migration %q: %w", name, err)
	}
	if !slices.Contains(statuses, row.Migration.Status) {
		return nil
	}
	if err := a.check(ctx, tx, row.Migration); err != nil {
		return err
	}
	return queries.MigrationAdopt(ctx, tx, dbgen.MigrationAdoptParams{
		MigrationID: row.Migration.ID, WorkChecksum: a.present, RemainingPredicate: a.remaining, RowSet: a.rows.Pinned(), ChangedBy: c.ChangedBy, Reason: a.reason(reason),
	})
}

// check makes sure, under the lock of the row, that what was examined is still so, that no job runs
// in the old version, and that a migration which is finished in the present version has visited
// every row.
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
	if err := a.checkRows(m); err != nil {
		return err
	}
	return a.checkPasses(ctx, tx, m)
}

// checkRows refuses a version that walks over rows for which the upper bound was not fixed, as they
// would be left out. A proof visits them all.
func (a *adoption) checkRows(m dbgen.Migration) error {
	if m.MaxKey == nil {
		return nil // it will be fixed for the present version
	}
	bounded, err := work.ReadRowSet(m.RowSet)
	if err != nil {
		return fmt.Errorf("migration %q: %w", m.Name, err)
	}
	another := fmt.Sprintf("bbm-runner cancel %s, then bbm-runner enqueue %s --name %s-2 (rows that are done stay done: the statement must leave them alone)",
		m.Name, a.work, m.Name)
	switch {
	case bounded == nil:
		return inputf("migration %q was enqueued by an older bbm-runner, which did not note the rows that it was bounded for, so the present version of work %q "+
			"could leave rows out; enqueue it once more in the version that it runs, %s, which notes them and changes nothing else, or start again: %s",
			m.Name, a.work, a.old, another)
	case !bounded.SameOrder(a.rows):
		return inputf("the keys of migration %q were cut in another order (%s) than the cursor of work %q has now (%s); start again: %s",
			m.Name, strings.Join(bounded.Order, "; "), a.work, strings.Join(a.rows.Order, "; "), another)
	case !bounded.Covers(a.rows) && a.remaining == nil:
		return inputf("the present version of work %q walks over %s, but migration %q was bounded for %s, so rows would be left out; start again: %s; "+
			"or add -- remaining: PREDICATE to the work, which looks through the whole table for what is left",
			a.work, a.rows, m.Name, bounded, another)
	}
	// Whatever the next jobs leave out, no later version may take for visited.
	a.rows = bounded.Shared(a.rows)
	return nil
}

// checkPasses refuses a version that says no more what remains, where that alone keeps rows that
// are done from being changed again.
func (a *adoption) checkPasses(ctx context.Context, tx pgx.Tx, m dbgen.Migration) error {
	if a.remaining != nil || m.RemainingPredicate == nil {
		return nil
	}
	decides, err := queries.VerificationDecidesRows(ctx, tx, m.ID)
	if err != nil {
		return fmt.Errorf("look at the passes of %q: %w", m.Name, err)
	}
	if decides {
		return inputf("migration %q goes again over rows that remain, and the present version of work %q does not say which do: rows that are done would be changed "+
			"again; keep -- remaining in it (it may be another predicate)", m.Name, a.work)
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

// rowSet goes with the checksum too.
func (a *adoption) rowSet() json.RawMessage {
	if a == nil {
		return json.RawMessage("null")
	}
	return a.rows.Pinned()
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
