package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// suspects are the rows behind the progress among which a sub-batch has failed on its data, by their number; 0: none are.
//
// Each try is an ordinary sub-batch of half of them. A half that succeeds is committed and counts, and the other half is suspected; a half that fails
// has changed nothing, and is suspected alone. So a row fails by itself after about log2 of their number, and nothing is changed twice.
type suspects struct{ rows int64 }

// suspectsOf are those of a job that failed on one row, the one behind its progress: it is tried alone, not searched for again.
func suspectsOf(job *claimedJob) suspects {
	if job.ExceptionKey == nil {
		return suspects{}
	}
	return suspects{rows: 1}
}

// limit is how many rows the next sub-batch takes, where size is what it would take without suspects.
func (s suspects) limit(size int) int {
	if s.rows == 0 {
		return size
	}
	return min(size, int((s.rows+1)/2))
}

// clear takes rows out that have been changed after all.
func (s *suspects) clear(rows int64) { s.rows = max(0, s.rows-rows) }

// narrow answers a sub-batch that failed on its data. It returns nil where the job goes on, with fewer suspects or past a row that is left out; else how
// the attempt has ended.
func (e *Executor) narrow(ctx context.Context, job *claimedJob, s *suspects, end endpoint, limit int, cause error) *outcome {
	if err := e.rollback(); err != nil {
		return &outcome{kind: kindConnection, err: err}
	}
	switch {
	case job.work.RepeatedKeys:
		return &outcome{kind: kindData, err: cause, note: "not narrowed down to a row, since its keys may be repeated"}
	case isAlone(job, end, limit):
		if over := e.quarantine(ctx, job, end.key, cause); over != nil {
			return over
		}
		s.rows = 0
	case limit == 1:
		return &outcome{kind: kindData, err: cause} // there is no row, and it fails all the same
	default:
		level := slog.LevelDebug
		if s.rows == 0 {
			level = slog.LevelWarn // once for each row that is searched for
		}
		s.rows = max(1, end.rows)
		job.log.Log(ctx, level, "sub-batch failed on its data; half of it is tried again", "rows", s.rows, "error", cause)
	}
	reason, pause, err := e.lookAgain(ctx, job)
	if err == nil && reason == "" {
		reason, err = e.pause(ctx, job, pause)
	}
	if err != nil || reason != "" {
		over := outcomeOf(reason, err)
		return &over
	}
	return nil
}

// isAlone tells whether a sub-batch was one row, that of its upper key. One that was asked for more ends where its range does, perhaps behind the row.
func isAlone(job *claimedJob, end endpoint, limit int) bool {
	return job.IsSingleRow || limit == 1 && end.rows == 1 && !job.work.RepeatedKeys
}

// rowOf is the row that a sub-batch was about; nil where it was about more, or is not known.
func rowOf(job *claimedJob, end endpoint, limit int) work.Key {
	if !isAlone(job, end, limit) {
		return nil
	}
	return end.key
}

// quarantine leaves a row that failed alone out, where the migration wants that: its key and the exception are kept in one transaction with the progress
// past it. It returns nil where it did, else how the attempt has ended. It does not depend on the runner's context, as no end of a try does.
func (e *Executor) quarantine(ctx context.Context, job *claimedJob, key work.Key, cause error) *outcome {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	class, message := exception(cause)
	answer, err := e.queries.JobQuarantine(ctx, e.conn, dbgen.JobQuarantineParams{
		JobID: job.ID, Claims: job.Claims, MigrationID: job.migration.ID, Slot: e.slot, ProgressKey: job.ProgressKey, RowKey: key,
		ExceptionClass: class, ExceptionMessage: message, ExceptionConstraint: constraintOf(cause),
	})
	switch kind := classify(err, failure{connectionLost: e.conn.IsClosed()}); {
	case err == nil && answer.IsQuarantined:
		job.ProgressKey, job.Stalls = key, 0
		job.log.Warn("row left out: it is in quarantine", "key", key, "exception", class, "error", message)
		return nil
	case err == nil:
		end := outcome{kind: kindData, err: cause, row: key}
		if answer.OnRowError == dbgen.BBMRowErrorPolicyQuarantine {
			end.note = fmt.Sprintf("the quarantine is full (%d rows)", answer.QuarantineLimit)
			if answer.QuarantineLimit == 1 {
				end.note = "the quarantine is full (1 row)"
			}
		}
		return &end
	case kind == kindContention:
		return &outcome{kind: kindGivenBack, reason: "the migration was locked by others when a row was to be left out"}
	default:
		return &outcome{kind: kind, err: fmt.Errorf("quarantine: %w", err)}
	}
}

// constraintOf is the constraint that an error of the server names; nil for none.
func constraintOf(err error) *string {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.ConstraintName == "" {
		return nil
	}
	name := shortened(printable(pg.ConstraintName)) // a trigger may name anything
	return &name
}

// shownLimit is how many characters of each value of a key a message shows; the columns that hold keys have all of it.
const shownLimit = 100

func shortened(text string) string {
	if runes := []rune(text); len(runes) > shownLimit {
		return string(runes[:shownLimit]) + "…"
	}
	return text
}

// place says in words where an attempt failed: on which row, by which constraint. It is empty where neither is known.
func (o outcome) place(columns []string) string {
	text := ""
	if o.row != nil {
		values := make([]string, len(o.row))
		for i, value := range o.row {
			values[i] = shortened(value)
		}
		text = fmt.Sprintf(" on the row with (%s) = (%s)", work.WriteNames(columns), strings.Join(values, ", "))
	}
	if constraint := constraintOf(o.err); constraint != nil {
		text += ", constraint " + *constraint
	}
	return text
}
