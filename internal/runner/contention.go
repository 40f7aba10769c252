package runner

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/bbm-runner/bbm-runner/internal/blocked"
	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

const (
	// contentionLimit is how many times in a row a sub-batch may lose to others before its job's
	// attempt has failed.
	contentionLimit = 10
	// tableLimit is how many times in a row it may lose to a lock on its table before the migration is
	// held: most such locks last moments.
	tableLimit = 3
)

// losses are those of sub-batches to others, in a row.
type losses struct{ all, toTables int }

// lose answers a sub-batch that was lost to others, or took too long: it is tried again, smaller.
// It returns how the attempt has ended where it has: held up by a lock on the table, which no row
// and no attempt is to blame for, or by others once too often.
func (e *Executor) lose(ctx context.Context, job *claimedJob, l *losses, k kind, cause error, row work.Key) *outcome {
	if err := e.rollback(); err != nil {
		return &outcome{kind: kindConnection, err: err}
	}
	by := ""
	if k == kindContention { // timeouts come to an end by themselves, at one row
		l.all++
		if by = e.blockedBy(ctx, job.migration, cause); by != "" {
			l.toTables++
		}
	}
	if by != "" {
		cause = fmt.Errorf("%w: %s", cause, by)
	}
	switch {
	case by != "" && (l.toTables >= tableLimit || l.all >= contentionLimit):
		return &outcome{kind: kindBlocked, err: cause, reason: by}
	case l.all >= contentionLimit:
		over := ending(k, cause, row)
		return &over
	}
	if reason, err := e.waitAfterLoss(ctx, job, cause, l.all); err != nil || reason != "" {
		over := outcomeOf(reason, err)
		return &over
	}
	return nil
}

// blockedBy says who holds the table of a migration, or awaits it, in a mode that lets nobody
// change rows; "" when nobody does, or the error was about something else. The wait is over by
// then, so those are asked for who would be in its way now. No transaction may be open.
func (e *Executor) blockedBy(ctx context.Context, m dbgen.Migration, cause error) string {
	var pg *pgconn.PgError
	if !errors.As(cause, &pg) || pg.Code != "55P03" { // lock_not_available
		return ""
	}
	blockers, err := e.queries.BlockerList(ctx, e.conn, dbgen.BlockerListParams{TableOid: m.TableOid, WaitingPids: []int32{}, Holders: true})
	if err != nil {
		e.log.Debug("who is in the way could not be asked", "migration", m.Name, "error", err)
	}
	return blocked.By(blockers)
}
