package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/preview"
	"github.com/bbm-runner/bbm-runner/internal/session"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// duplicateObject is the SQLSTATE that bbm.enqueue raises for a name that another definition has.
const duplicateObject = "42710"

// EnqueueOptions say what to run. Sizes are in rows; nil leaves the choice to the work's header, and then to the default.
type EnqueueOptions struct {
	Work, Name               string            // Name: "" for the work's
	Arguments                map[string]string // in text form, as PostgreSQL reads them
	BatchSize, SubBatchSize  *int
	SubBatchAuto             bool           // let the runner choose the sub-batch size, whatever the header says
	Interval, Pause          *time.Duration // between the starts of two jobs; between sub-batches; default 0
	MaxAttempts, Parallelism *int           // default 5; default 1
	OnRowError               *string        // fail (default) or quarantine: what happens to a row that fails alone on its data
	QuarantineLimit          *int           // rows that may be left out, 1 to 10,000; default 100
	Paused                   bool
	DryRun                   bool     // check everything and write nothing
	Strict                   bool     // what is found about the work is an error: nothing is created
	Accept                   []string // codes of findings that are known, and left out
}

// ErrFindings is returned with the result when something is found about the work, and nothing may
// be.
var ErrFindings = errors.New("there are warnings, and --strict asks for none; mend the work or its table, or leave out those that are known (--accept CODE)")

// EnqueueResult tells what there is now; after a dry run, what there would be.
type EnqueueResult struct {
	Name          string
	Created       bool     // false: a migration of that name and definition is there already
	Status        string   // "" after a dry run that would create it
	IgnoredTuning []string // what a migration that is there already has otherwise: "batch_size=1000 (it has 50000)"
	Warnings      []string
	Findings      []work.Warning // what explain warns of, about the work on this table

	Work, Checksum, Table string
	Cursor                []string
	BatchSize             int  // rows of a job
	SubBatchSize          *int // rows of a transaction; nil: chosen by the runner
	Rows, Jobs            int64
}

// Enqueue checks the definition against the database and creates a migration. The same name with the same definition (work, version, table
// and arguments) again changes nothing but that it pins what was enqueued from SQL. Wrong input, a work that cannot run
// ([*work.DefinitionError]) and a name that another definition has ([*InputError]) change nothing at all.
func (c *Control) Enqueue(ctx context.Context, o EnqueueOptions) (EnqueueResult, error) {
	e, err := c.request(o)
	if err != nil {
		return EnqueueResult{}, err
	}
	var findings []work.Warning
	e.target, findings, err = preview.Review(session.Cancellable(ctx), c.Conn, preview.Subject{
		Work: e.work, Arguments: e.arguments, BatchSize: value(o.BatchSize), SubBatchSize: value(o.SubBatchSize),
	})
	if err != nil {
		return EnqueueResult{}, err
	}
	findings = slices.DeleteFunc(findings, func(w work.Warning) bool { return slices.Contains(o.Accept, w.Code) })
	if o.Strict && len(findings) > 0 && !o.DryRun {
		return EnqueueResult{Findings: findings}, ErrFindings
	}
	var result EnqueueResult
	if o.DryRun {
		result, err = c.rehearse(ctx, e)
	} else {
		result, err = c.create(ctx, e)
		var taken *pgconn.PgError
		if errors.As(err, &taken) && taken.Code == duplicateObject {
			// Somebody took the name between our look and our insert: now it is there to be compared with.
			result, err = c.create(ctx, e)
		}
	}
	result.Findings = findings
	if err == nil && o.Strict && len(findings) > 0 {
		err = ErrFindings
	}
	return result, err
}

// rehearse is Enqueue without a write.
func (c *Control) rehearse(ctx context.Context, e enqueueing) (EnqueueResult, error) {
	m, err := c.get(ctx, e.name)
	if errors.Is(err, ErrNotFound) {
		pinned := work.PinParams(dbgen.Migration{BatchSize: int4(e.BatchSize), SubBatchSize: int4(e.SubBatchSize)}, e.work, e.target)
		size := cmp.Or(value(e.BatchSize), int(pinned.BatchSize))
		subBatch := e.SubBatchSize
		if subBatch == nil && pinned.SubBatchSize != nil {
			header := min(int(*pinned.SubBatchSize), size)
			subBatch = &header
		}
		return e.result(dbgen.Migration{Name: e.name, BatchSize: int4(&size), SubBatchSize: int4(subBatch)}, true), nil
	}
	if err != nil {
		return EnqueueResult{}, err
	}
	if err := e.compare(m); err != nil {
		return EnqueueResult{}, err
	}
	return e.result(m, false), nil
}

// create makes the migration by the function that SQL has for it, and pins what only the work's file knows.
func (c *Control) create(ctx context.Context, e enqueueing) (result EnqueueResult, err error) {
	err = pgx.BeginFunc(ctx, c.Conn, func(tx pgx.Tx) error {
		if err := queries.ChangedBySet(ctx, tx, e.changedBy); err != nil {
			return fmt.Errorf("say who enqueues: %w", err)
		}
		row, err := queries.MigrationLock(ctx, tx, e.name)
		if errors.Is(err, pgx.ErrNoRows) {
			row, err = e.insert(ctx, tx)
		}
		if err != nil {
			return fmt.Errorf("enqueue %q: %w", e.name, err)
		}
		m, created := row.Migration, row.IsWrittenHere
		if err := e.compare(m); err != nil {
			return err
		}
		if created {
			// Behind the look into the table that finishes a migration at once.
			if err := work.CheckStands(ctx, tx, e.target); err != nil {
				return err
			}
		}
		// A migration that failed or ended before it was pinned is left as it is.
		if created || m.WorkChecksum == nil && (m.Status == paused || m.Status == active) {
			if m, err = e.pin(ctx, tx, m, created); err != nil {
				return err
			}
		}
		if m.WorkChecksum != nil && m.RowSet == nil { // pinned by a version of bbm-runner that did not note it
			err := queries.MigrationNoteRowSet(ctx, tx, dbgen.MigrationNoteRowSetParams{
				MigrationID: m.ID, WorkChecksum: e.work.Checksum(), RowSet: e.work.RowSet(e.target).Pinned(),
			})
			if err != nil {
				return fmt.Errorf("note the rows of %q: %w", e.name, err)
			}
		}
		result = e.result(m, created)
		if created {
			result.Warnings, err = e.notes(ctx, tx, m.ID)
		}
		return err
	})
	return result, err
}

// notes are what bbm.enqueue had to say of the migration that it has made: why an empty table was
// not finished at once.
func (e enqueueing) notes(ctx context.Context, tx pgx.Tx, id int64) (notes []string, err error) {
	logs, err := queries.MigrationLogList(ctx, tx, id)
	if err != nil {
		return nil, fmt.Errorf("read the history of %q: %w", e.name, err)
	}
	for _, l := range logs {
		if l.NextStatus != finished && l.Reason != nil {
			notes = append(notes, *l.Reason)
		}
	}
	return notes, nil
}

func (e enqueueing) insert(ctx context.Context, tx pgx.Tx) (dbgen.MigrationLockRow, error) {
	arguments := e.Arguments
	if arguments == nil {
		arguments = map[string]string{}
	}
	encoded, err := json.Marshal(arguments)
	if err != nil {
		return dbgen.MigrationLockRow{}, err
	}
	_, err = queries.MigrationEnqueue(ctx, tx, dbgen.MigrationEnqueueParams{
		WorkName: e.work.Name, Name: e.name, TableOid: e.target.Oid, Arguments: encoded, IsPaused: e.Paused,
		BatchSize: int4(e.BatchSize), SubBatchSize: int4(e.SubBatchSize), Pause: e.Pause, JobInterval: e.Interval,
		Parallelism: int4(e.Parallelism), MaxAttempts: int4(e.MaxAttempts), OnRowError: e.OnRowError, QuarantineLimit: int4(e.QuarantineLimit),
	})
	if err != nil {
		return dbgen.MigrationLockRow{}, err
	}
	return queries.MigrationLock(ctx, tx, e.name)
}

// pin fixes the definition, and sets the tuning that was given where that was not done at the
// creation.
func (e enqueueing) pin(ctx context.Context, tx pgx.Tx, m dbgen.Migration, created bool) (dbgen.Migration, error) {
	if err := e.checkSizes(m); err != nil {
		return m, err
	}
	if !created {
		for _, setting := range e.settings() {
			err := queries.MigrationSet(ctx, tx, dbgen.MigrationSetParams{Name: e.name, Setting: setting[0], Value: setting[1]})
			if err != nil {
				return m, fmt.Errorf("tune %q: %w", e.name, err)
			}
		}
	}
	pinned, err := queries.MigrationPin(ctx, tx, work.PinParams(m, e.work, e.target))
	if err != nil {
		return m, fmt.Errorf("pin %q: %w", e.name, err)
	}
	return pinned, nil
}

// settings are those that were given, each with its value as bbm.set takes it. A sub-batch is
// judged by the batch size, so that comes first.
func (e enqueueing) settings() (given [][2]string) {
	if e.BatchSize != nil {
		given = append(given, [2]string{"batch_size", strconv.Itoa(*e.BatchSize)})
	}
	return append(given, SetOptions{
		SubBatchSize: e.SubBatchSize, SubBatchAuto: e.SubBatchAuto, Pause: e.Pause, Interval: e.Interval, Parallelism: e.Parallelism, MaxAttempts: e.MaxAttempts,
		OnRowError: e.OnRowError, QuarantineLimit: e.QuarantineLimit,
	}.settings()...)
}
