package preview

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/session"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// SampleOptions say where and how much.
type SampleOptions struct {
	Shares  []float64 // places in the range, from 0 to 1
	Batches int       // sub-batches at each place, one behind the other
	// Watcher is a second connection, which tells whom the sample waits for. It is used only while a sub-batch runs.
	Watcher *pgx.Conn
	// The timeouts of the session, for messages and for how often to look.
	LockTimeout, StatementTimeout time.Duration
}

// ErrExternalEffects is returned when a work changes what a rollback does not undo, so that it cannot be tried.
var ErrExternalEffects = errors.New("the work declares external effects, which a rollback does not undo")

// Sample executes sub-batches of the subject and rolls each back. It returns a
// [*work.DefinitionError] when the subject cannot run, [ErrExternalEffects], or a [*BlockedError]
// when others held a lock for too long. conn is one of session.Connect, with a run's timeouts, that
// has written nothing before: what the server has not collected of that would count as ours.
//
// What a rollback leaves behind: dead row versions until VACUUM, WAL, values taken from sequences, and a warmer cache.
func Sample(ctx context.Context, conn *pgx.Conn, s Subject, o SampleOptions) (*Sampling, error) {
	if s.Work.ExternalEffects {
		return nil, fmt.Errorf("work %q cannot be sampled: %w", s.Work.Name, ErrExternalEffects)
	}
	ctx = session.Cancellable(ctx)
	var sr sampler
	looking := watch{watcher: o.Watcher, pid: conn.PgConn().PID(), lockTimeout: o.LockTimeout}
	prepare := func(st *stage) (err error) {
		sr = sampler{stage: *st, SampleOptions: o, conn: conn, size: st.subBatchSize(), watch: looking}
		sr.watch.table = st.target.Oid
		if sr.until, err = st.lastKey(ctx); err != nil {
			return err
		}
		if sr.until == nil {
			return &work.DefinitionError{
				Code:    dbgen.BBMMigrationFailureCodeInvalidTable,
				Message: fmt.Sprintf("%s is empty%s: there is nothing to sample", st.target.Name, st.inScope()),
			}
		}
		sr.begin, err = st.places(ctx, sr.until, o.Shares, o.Batches*sr.size)
		sr.found = st.found
		return err
	}
	err := looking.during(ctx, func() error { return onStage(ctx, conn, s, prepare) })
	if err != nil {
		return nil, orStopped(ctx, err)
	}
	result := sr.outline()
	for _, p := range sr.begin {
		if err := sr.at(ctx, p, sr.size, sr.Batches, &result.SubBatches, result); err != nil {
			return nil, orStopped(ctx, err)
		}
	}
	if len(result.SubBatches) == 0 && sr.failure != nil {
		return nil, sr.failure
	}
	if err := sr.tryRecommended(ctx, result); err != nil {
		return nil, orStopped(ctx, err)
	}
	sr.noteBad(result)
	sr.conclude(result)
	return result, nil
}

// sampler is one call of [Sample]; the stage that it began on is over.
type sampler struct {
	stage
	SampleOptions
	conn  *pgx.Conn
	watch watch
	size  int
	until work.Key
	begin []place

	failure error // of the first sub-batch that failed on its data
	dead    deadRows
}

func (sr *sampler) outline() *Sampling {
	s := &Sampling{
		Work: sr.Work.Name, Checksum: sr.Work.Checksum(), Table: sr.target.Name, Arguments: sr.Arguments,
		BatchSize: sr.JobSize(), SubBatchSize: sr.size, Rows: sr.rows, Found: sr.found,
		LockTimeout: milliseconds(sr.LockTimeout), StatementTimeout: milliseconds(sr.StatementTimeout),
		SubBatches: []SubBatch{}, BadRanges: []BadRange{}, Notes: []Warning{},
	}
	if s.Arguments == nil {
		s.Arguments = work.Arguments{}
	}
	s.Notes = append(s.Notes, sr.warnings...)
	return s
}

// at runs sub-batches from one place on, and adds them to a list. Rows that fail on their data are
// left out, up to a number.
func (sr *sampler) at(ctx context.Context, p place, size, batches int, list *[]SubBatch, result *Sampling) error {
	after, bad := p.after, 0
	for number := 1; number <= batches && bad < mostBadRows; {
		one := SubBatch{At: p.share, Number: number, After: after}
		reachedEnd, err := sr.bound(ctx, &one, size)
		if err != nil {
			return err
		}
		if one.Until == nil {
			return nil
		}
		err = sr.attempt(ctx, &one)
		switch {
		case err == nil:
			*list = append(*list, one)
			after = one.Until
			number++
		case work.BlamesRow(err):
			sr.failure = cmp.Or(sr.failure, err)
			left, err := sr.narrow(ctx, one, err)
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(result.BadRanges, left.isOf) {
				result.BadRanges = append(result.BadRanges, left)
			}
			reachedEnd = reachedEnd && slices.Equal(left.Until, one.Until)
			after = left.Until
			bad++
		default:
			return err
		}
		if reachedEnd {
			return nil
		}
	}
	return nil
}

// bound finds the end of a sub-batch of so many rows, and says who keeps it waiting. Until is nil
// where no row is left.
func (sr *sampler) bound(ctx context.Context, one *SubBatch, size int) (reachedEnd bool, err error) {
	err = sr.watch.during(ctx, func() (err error) {
		reachedEnd, err = sr.findEnd(ctx, one, size)
		return err
	})
	return reachedEnd, err
}

// findEnd does so as a run does: in a read-only transaction of its own.
func (sr *sampler) findEnd(ctx context.Context, one *SubBatch, size int) (reachedEnd bool, err error) {
	tx, err := sr.conn.BeginTx(ctx, readOnly)
	if err != nil {
		return false, fmt.Errorf("begin: %w", err)
	}
	defer func() { err = errors.Join(err, tx.Rollback(context.WithoutCancel(ctx))) }()
	if err := setSession(ctx, tx, sr.Work); err != nil {
		return false, err
	}
	if _, err := tx.Exec(ctx, work.StreamingPlans); err != nil {
		return false, err
	}
	sql, values := sr.statements.Boundary(work.Range{After: one.After, Until: sr.until}, size, size)
	if _, err := tx.Conn().Prepare(ctx, sql, sql); err != nil {
		return false, err
	}
	var piece int64
	started := time.Now()
	err = tx.QueryRow(ctx, sql, values...).Scan(&piece, (*[]string)(&one.Until), &one.ProcessedRows, &reachedEnd)
	one.Boundary = milliseconds(time.Since(started))
	if errors.Is(err, pgx.ErrNoRows) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("find the end of a sub-batch: %w", err)
	}
	return reachedEnd, nil
}

// attempt runs one sub-batch and rolls it back.
func (sr *sampler) attempt(ctx context.Context, one *SubBatch) (err error) {
	tx, err := sr.conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: "BEGIN ISOLATION LEVEL READ COMMITTED"})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { err = errors.Join(err, tx.Rollback(context.WithoutCancel(ctx))) }()
	if err := setSession(ctx, tx, sr.Work); err != nil {
		return err
	}
	before, err := queries.PreviewCounters(ctx, tx, sr.target.Oid)
	if err != nil {
		return fmt.Errorf("read the counters: %w", err)
	}
	written, err := sr.dead.written(ctx, tx)
	if err != nil {
		return err
	}
	if err := sr.watch.during(ctx, func() error { return sr.run(ctx, tx, one) }); err != nil {
		return sr.explainFailure(err, one)
	}
	after, err := queries.PreviewCounters(ctx, tx, sr.target.Oid)
	if err != nil {
		return fmt.Errorf("read the counters: %w", err)
	}
	if after.TransactionID != before.TransactionID {
		return fmt.Errorf("work %q has ended the sample's transaction: what it did up to then may be committed", sr.Work.Name)
	}
	if err := work.CheckStands(ctx, tx, sr.target); err != nil {
		return err
	}
	if err := sr.dead.add(ctx, tx, written); err != nil {
		return err
	}
	one.UpdatedRows, one.HOTRows = after.Updated-before.Updated, after.HotUpdated-before.HotUpdated
	one.ServerWAL = after.WalPosition - before.WalPosition
	return nil
}

// run executes the work for a range, and lets deferred constraints be checked as COMMIT would.
func (sr *sampler) run(ctx context.Context, tx pgx.Tx, one *SubBatch) error {
	r := work.Range{After: one.After, Until: one.Until}
	started := time.Now()
	if sr.Work.Do != nil {
		affected, err := call(ctx, tx, sr.Work, sr.statements.Batch(sr.Work.Name, r, sr.Arguments, 1))
		if err != nil {
			return err
		}
		one.AffectedRows = affected
	} else {
		sql, values, err := sr.statements.Work(r, sr.Arguments)
		if err != nil {
			return err
		}
		// A run has it prepared already.
		if _, err := tx.Conn().Prepare(ctx, costs+sql, costs+sql); err != nil {
			return sr.blame(err, sql)
		}
		started = time.Now()
		e, err := explainJSON(ctx, tx, sql, values)
		if err != nil {
			return sr.blame(err, sql)
		}
		one.read(e)
	}
	for _, statement := range session.OwnRole {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return fmt.Errorf("give up the role of the work: %w", err)
		}
	}
	done := time.Now()
	if _, err := tx.Exec(ctx, "SET CONSTRAINTS ALL IMMEDIATE"); err != nil {
		return fmt.Errorf("check the deferred constraints: %w", err)
	}
	one.Constraints = milliseconds(time.Since(done))
	one.Duration = milliseconds(time.Since(started))
	return nil
}

// costs makes the server execute a statement and tell what that has cost.
const costs = "EXPLAIN (ANALYZE, BUFFERS, WAL, FORMAT JSON) "

// blame names the file's line for an error that trying again does not mend, but for one of the data: that is the place's.
func (sr *sampler) blame(err error, sql string) error {
	if strings.HasPrefix(sqlState(err), "22") {
		return err
	}
	return sr.Work.Blame(err, sql, len(costs), "run the statement")
}

// call runs a Go work as a runner does: in a savepoint, with panics recovered.
func call(ctx context.Context, tx pgx.Tx, w *work.Work, b work.Batch) (affected int64, err error) {
	nested, err := tx.Begin(ctx)
	if err != nil {
		return 0, fmt.Errorf("begin work: %w", err)
	}
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return w.Do(ctx, workTx{nested}, b)
}

// workTx keeps a Go work from ending the transaction that it is tried in.
type workTx struct{ pgx.Tx }

var errEndedByUs = errors.New("the sample ends the sub-batch's transaction: return from the work instead")

func (workTx) Commit(context.Context) error   { return errEndedByUs }
func (workTx) Rollback(context.Context) error { return errEndedByUs }
