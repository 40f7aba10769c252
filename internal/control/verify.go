package control

import (
	"context"
	"fmt"
	"time"

	"github.com/bbm-runner/bbm-runner/internal/session"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// Verified is what a walk over the table of a migration has found: the names are a contract.
type Verified struct {
	Name          string     `json:"name"`
	Work          string     `json:"work"`
	Table         string     `json:"table"`
	Remaining     string     `json:"remaining"` // the predicate that holds for rows which are still to be changed
	Rows          int64      `json:"rows"`      // looked at
	RemainingRows int64      `json:"remaining_rows"`
	RemainingKeys []work.Key `json:"remaining_keys"`   // the first few
	LeftOut       int64      `json:"quarantined_rows"` // which do not count as remaining

	LeftOutRemaining int64     `json:"remaining_quarantined_rows"` // of them, still to be changed: somebody may have mended the others
	Statement        string    `json:"statement"`                  // as the first piece was read
	VerifiedAt       time.Time `json:"verified_at"`

	EstimatedRows int64  `json:"-"`
	OtherVersion  string `json:"-"` // the checksum that the migration has pinned, where it is not that of the present work
}

// Verify walks over the whole table of a migration, up to its present end, and counts the rows that
// its work has still to change, those in quarantine apart. It reads, each piece in a transaction of
// its own, and writes nothing; seen (may be nil) is told after each piece. It does not wait for
// transactions in progress, so what they write is not judged. The connection must not be in a
// transaction. An [*InputError] says when there is nothing to judge by.
func (c *Control) Verify(ctx context.Context, name string, seen func(Verified)) (Verified, error) {
	ctx = session.Cancellable(ctx)
	m, err := c.get(ctx, name)
	if err != nil {
		return Verified{}, err
	}
	w, err := c.work(m.WorkName)
	if err != nil {
		return Verified{}, err
	}
	if w.Remaining == "" {
		return Verified{}, inputf("the work %q does not say what remains to be done, so there is nothing to verify by; add -- remaining: PREDICATE to it "+
			"(which makes it another version of the work)", w.Name)
	}
	target, err := work.Resolve(ctx, c.Conn, w)
	if err != nil {
		return Verified{}, err
	}
	if target.Oid != m.TableOid {
		return Verified{}, inputf("the work %q is for %s, but migration %q ran on another table, %s (oid %d)", w.Name, target.Name, name, m.TableName, m.TableOid)
	}
	if err := work.CheckRemaining(ctx, c.Conn, w, target); err != nil {
		return Verified{}, err
	}
	statements := work.NewStatements(w, target)
	v := Verified{
		Name: name, Work: w.Name, Table: target.Name, Remaining: w.Remaining, RemainingKeys: []work.Key{}, EstimatedRows: target.Rows, LeftOut: m.QuarantinedRows,
		Statement: statements.RemainingStatement(),
	}
	if m.WorkChecksum != nil && *m.WorkChecksum != w.Checksum() {
		v.OtherVersion = *m.WorkChecksum
	}
	_, err = queries.SessionPin(ctx, c.Conn, session.PinsOfWork(w.SearchPathSetting(), w.TimeZoneSetting()))
	if err != nil {
		return Verified{}, fmt.Errorf("set up the session for work %q: %w", w.Name, err)
	}
	err = c.walk(ctx, m.ID, target, statements, func(piece work.Piece) {
		v.Rows += piece.Rows
		v.RemainingRows += piece.Remaining
		v.LeftOutRemaining += piece.LeftOut
		v.RemainingKeys = append(v.RemainingKeys, piece.Keys[:min(len(piece.Keys), work.KeysShown-min(len(v.RemainingKeys), work.KeysShown))]...)
		if seen != nil {
			seen(v)
		}
	})
	v.VerifiedAt = time.Now().UTC()
	return v, err
}
