package preview

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// idleTimeout ends a transaction whose client hangs, as a runner's does.
const idleTimeout = 30 * time.Second

var queries = dbgen.New()

// Subject is what is looked at: a work with arguments, or a migration, which has fixed them.
type Subject struct {
	Work         *work.Work
	Arguments    work.Arguments
	BatchSize    int      // rows of a job; 0: the work's own, else the default
	SubBatchSize int      // rows of a transaction, fixed; 0: the work's own, else chosen by the runner
	Learned      int      // what the runner has chosen last; 0: nothing yet
	Migration    string   // "" where none is looked at
	Until        work.Key // the migration's upper bound; nil: the last key of the table
	Notes        []Warning
}

// OfMigration makes a migration the subject: its arguments, sizes and bound. The error is pgx.ErrNoRows where there is none of that name, and a
// [*work.DefinitionError] where its work is not among works.
func OfMigration(ctx context.Context, conn *pgx.Conn, works *work.Registry, name string) (Subject, error) {
	m, err := queries.MigrationGet(ctx, conn, name)
	if err != nil {
		return Subject{}, fmt.Errorf("read migration %q: %w", name, err)
	}
	w, ok := works.Get(m.WorkName)
	if !ok {
		return Subject{}, &work.DefinitionError{
			Code:    dbgen.BBMMigrationFailureCodeInvalidWork,
			Message: fmt.Sprintf("migration %q runs the work %q, which is not here; is the folder of works right (--works)?", name, m.WorkName),
		}
	}
	arguments, err := work.ReadArguments(m.Arguments)
	if err != nil {
		return Subject{}, fmt.Errorf("migration %q: %w", name, err)
	}
	s := Subject{Work: w, Arguments: arguments, Migration: name, Until: m.MaxKey}
	if m.BatchSize != nil {
		s.BatchSize = int(*m.BatchSize)
	}
	if m.SubBatchSize != nil {
		s.SubBatchSize = int(*m.SubBatchSize)
	}
	if m.LearnedSubBatchSize != nil {
		s.Learned = int(*m.LearnedSubBatchSize)
	}
	if m.WorkChecksum != nil && *m.WorkChecksum != w.Checksum() {
		s.Notes = append(s.Notes, warning("other_version",
			"the migration runs version %s of the work, and this is %s: a runner with this version leaves it alone until --accept-work", *m.WorkChecksum, w.Checksum()))
	}
	return s, nil
}

// JobSize is how many rows a job would have.
func (s Subject) JobSize() int {
	return cmp.Or(s.BatchSize, s.Work.BatchSize, work.DefaultBatchSize)
}

// subBatchSize is how many rows a transaction would have, at first where the runner chooses.
func (s Subject) subBatchSize() int {
	return min(cmp.Or(s.SubBatchSize, s.Work.SubBatchSize, s.Learned, work.DefaultSubBatchSize), s.JobSize())
}

// isAdaptive tells whether the runner chooses the size of sub-batches.
func (s Subject) isAdaptive() bool { return s.SubBatchSize == 0 && s.Work.SubBatchSize == 0 }

// stage is a transaction in which a subject is looked at: with the settings of a run, and rolled back at its end.
type stage struct {
	Subject
	tx         pgx.Tx
	target     work.Target
	statements *work.Statements
	table      dbgen.PreviewTableRow
	rows       int64  // that a run walks over; an estimate
	found      string // how places were found
	warnings   []Warning
}

// Everything here reads, so the server itself keeps it from writing: functions that are called while planning too.
var readOnly = pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadOnly}

// onStage proves that the subject can run, as an enqueue does, and calls do in the same transaction.
func onStage(ctx context.Context, conn *pgx.Conn, s Subject, do func(*stage) error) (err error) {
	tx, err := conn.BeginTx(ctx, readOnly)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { err = errors.Join(err, tx.Rollback(context.WithoutCancel(ctx))) }()
	st := &stage{Subject: s, tx: tx, warnings: s.Notes}
	if st.target, err = work.Resolve(ctx, tx, s.Work); err != nil {
		return err
	}
	found, err := work.CheckWork(ctx, tx, s.Work, st.target, s.Arguments)
	if err != nil {
		return err
	}
	for _, w := range found {
		st.add(w)
	}
	st.statements = work.NewStatements(s.Work, st.target)
	if err := setSession(ctx, tx, s.Work); err != nil {
		return err
	}
	if st.table, err = findTable(ctx, tx, st.target.Schema, st.target.Table); err != nil {
		return err
	}
	if st.rows, err = work.EstimateRows(ctx, tx, s.Work, st.target); err != nil {
		return err
	}
	if err := do(st); err != nil {
		return err
	}
	return work.CheckStands(ctx, tx, st.target)
}

// inScope ends the sentence that the table is empty.
func (st *stage) inScope() string {
	if st.Work.Scope == "" {
		return ""
	}
	return " in the scope"
}

// setSession gives a transaction what a run sets for a work.
func setSession(ctx context.Context, tx pgx.Tx, w *work.Work) error {
	err := queries.PreviewSettingsSet(ctx, tx, dbgen.PreviewSettingsSetParams{
		SearchPath: w.SearchPathSetting(), TimeZone: w.TimeZoneSetting(), IdleTimeout: fmt.Sprint(idleTimeout.Milliseconds()),
	})
	if err != nil {
		return fmt.Errorf("set up the session for work %q: %w", w.Name, err)
	}
	return nil
}

func findTable(ctx context.Context, tx pgx.Tx, schema, table string) (dbgen.PreviewTableRow, error) {
	found, err := queries.PreviewTable(ctx, tx, dbgen.PreviewTableParams{SchemaName: schema, TableName: table})
	if err != nil {
		return found, fmt.Errorf("look at table %s: %w", work.WriteName(schema, table), err)
	}
	return found, nil
}

// Warning is what a reviewer should know.
type Warning = work.Warning

func warning(code, format string, values ...any) Warning {
	return Warning{Code: code, Message: fmt.Sprintf(format, values...)}
}

func (st *stage) warn(code, format string, values ...any) { st.add(warning(code, format, values...)) }

// add notes a warning, each once.
func (st *stage) add(w Warning) {
	if !slices.ContainsFunc(st.warnings, w.SameAs) {
		st.warnings = append(st.warnings, w)
	}
}
