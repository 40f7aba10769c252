package work

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// DefaultSubBatchSize is how many rows the first transactions of a job change where nothing else is asked for: at the usual 10,000 to 50,000
// rows a second that holds their locks for a tenth of a second at most.
const DefaultSubBatchSize = 1_000

// LargestSubBatchSize is how many rows a transaction has at most where the runner chooses.
const LargestSubBatchSize = 20_000

// ClearlyDearer is by how much a row costs more in another size of sub-batches that is another
// plan's: noise and the growth of an index's depth stay below it.
const ClearlyDearer = 1.5

// DefinitionError is returned when a work cannot run as it is defined: on its table, with its cursor or with the arguments that were given.
// Trying again does not help.
type DefinitionError struct {
	Code    dbgen.MigrationFailureCode
	Message string // one line with the reason and what to do about it
}

func (e *DefinitionError) Error() string { return e.Message }

func invalid(code dbgen.MigrationFailureCode, format string, values ...any) *DefinitionError {
	return &DefinitionError{code, fmt.Sprintf(format, values...)}
}

// PinParams are what is pinned when a migration's definition has been checked. What the migration has been given goes before the work's
// headers, and these before the defaults.
func PinParams(m dbgen.Migration, w *Work, t Target) dbgen.MigrationPinParams {
	params := dbgen.MigrationPinParams{
		MigrationID:     m.ID,
		WorkChecksum:    w.Checksum(),
		CursorColumns:   w.Cursor,
		BatchSize:       int32(cmp.Or(w.BatchSize, DefaultBatchSize)),
		TotalTupleCount: t.Rows,
	}
	params.RemainingPredicate = w.RemainingPredicate()
	params.RowSet = w.RowSet(t).Pinned()
	if m.Status == dbgen.BBMMigrationStatusFinished {
		params.TotalTupleCount = 0 // the table was empty
	}
	if m.SubBatchSize != nil {
		// Enqueued from SQL with a sub-batch alone: the batch is never smaller.
		params.BatchSize = max(params.BatchSize, *m.SubBatchSize)
	}
	if w.SubBatchSize > 0 {
		size := int32(w.SubBatchSize)
		params.SubBatchSize = &size
	}
	return params
}

// RemainingPredicate is what is pinned of [Work.Remaining]; nil without one.
func (w *Work) RemainingPredicate() *string {
	if w.Remaining == "" {
		return nil
	}
	return &w.Remaining
}

// SearchPathSetting is the value of search_path that the work's statements need. Temporary tables
// come last: where they are not named they are first, and one that is called like the target would
// be changed in its place.
func (w *Work) SearchPathSetting() string {
	schemas := []string{"pg_catalog"}
	for _, schema := range w.SearchPath {
		schemas = append(schemas, pgx.Identifier{schema}.Sanitize())
	}
	return strings.Join(append(schemas, "pg_temp"), ", ")
}

// TimeZoneSetting is the value of TimeZone that the work's statements need.
func (w *Work) TimeZoneSetting() string { return cmp.Or(w.TimeZone, "UTC") }

// definitionClasses are the SQLSTATE classes that blame a statement and not the moment: data exception, syntax error or access rule
// violation, invalid schema name, feature not supported, program limit exceeded.
var definitionClasses = map[string]bool{"22": true, "42": true, "3F": true, "0A": true, "54": true}

// definitionFault returns the server's error when it blames the statement; nil when trying again could help.
func definitionFault(err error) *pgconn.PgError {
	var fault *pgconn.PgError
	if errors.As(err, &fault) && len(fault.Code) == 5 && definitionClasses[fault.Code[:2]] {
		return fault
	}
	return nil
}

// plainMessage is the server's message with its hint, without DETAIL, which may quote rows.
func plainMessage(fault *pgconn.PgError) string {
	if fault.Hint == "" {
		return fault.Message
	}
	return fmt.Sprintf("%s (%s)", fault.Message, strings.TrimSuffix(fault.Hint, "."))
}
