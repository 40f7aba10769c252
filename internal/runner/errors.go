package runner

import (
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/bbm-runner/bbm-runner/internal/work"
)

// kind is what an error of a sub-batch means for its job.
type kind int

const (
	kindDone       kind = iota // no error
	kindGivenBack              // stopped between sub-batches, or cancelled by ourselves
	kindContention             // lost to others: back off, smaller, again
	kindBlocked                // others hold the whole table: hold, again
	kindTimeout                // the sub-batch took too long: smaller, again
	kindCancelled              // cancelled by someone: hold briefly, again
	kindDefinition             // the work does not fit the table: no retry
	kindResources              // the server lacks something: hold, again later
	kindEndpoint               // the boundary query failed: hold, again later
	kindConnection             // the connection is gone: nothing goes on from memory
	kindFenced                 // the job is no longer ours
	kindData                   // a row does not fit what the statement or the table asks of it: narrowed down to the row, then a failed attempt
	kindOther                  // anything else: a failed attempt
)

// isLoss tells whether the sub-batch is worth trying again at once, smaller.
func (k kind) isLoss() bool { return k == kindContention || k == kindTimeout }

// failure is what is known beside the error itself.
type failure struct {
	connectionLost bool
	cancelledByUs  bool
	timedOut       bool // the statement's time had run out
	alone          bool // the sub-batch was a single row
}

// classify sorts an error by its SQLSTATE (PostgreSQL's manual, appendix A). Whether the connection is lost the driver knows: a work may raise a
// connection's error of another server.
func classify(err error, f failure) kind {
	var pg *pgconn.PgError
	isServers := errors.As(err, &pg)
	switch {
	case errors.Is(err, errFenced), isServers && pg.Code == "BBM01":
		return kindFenced
	case errors.Is(err, errTransactionEnded), isServers && pg.Code == "BBM02":
		return kindDefinition
	case f.connectionLost, errors.Is(err, errConnectionLost):
		return kindConnection
	case f.cancelledByUs:
		return kindGivenBack
	}
	kind := kindOther
	if isServers {
		kind = kindOf(pg.Code, f)
	}
	if kind == kindOther && work.BlamesRow(err) {
		kind = kindData
	}
	switch {
	case kind == kindDefinition && isOfWork(err):
		return kindDefinition
	case errors.Is(err, ErrJobEndpointNotFound) && (kind == kindOther || kind == kindDefinition || kind == kindData):
		return kindEndpoint
	case kind == kindData && !isOfWork(err):
		return kindOther // one of our own statements: no row is to blame
	case kind == kindDefinition:
		return kindResources // one of our own statements: a right that is missing is no fault of the work
	}
	return kind
}

// isDefinition tells an error of the server that names something which is not there, not as it was, or not permitted.
func isDefinition(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && kindOf(pg.Code, failure{}) == kindDefinition
}

// workError is an error of the work itself, or of a statement built from it.
type workError struct {
	err       error
	isForeign bool // our transaction was not aborted by it: another server's, for one
}

func (e *workError) Error() string { return e.err.Error() }
func (e *workError) Unwrap() error { return e.err }

// isOfWork tells whose statement has failed. What cannot be prepared fails in place of the first statement of its pipeline, whichever it was.
func isOfWork(err error) bool {
	var unprepared pgx.ErrPreprocessingBatch
	if errors.As(err, &unprepared) {
		isOurs := strings.HasPrefix(unprepared.SQL(), "-- name: ") && strings.Contains(unprepared.SQL(), "bbm.")
		return !isOurs
	}
	var ofWork *workError
	return errors.As(err, &ofWork)
}

// relays are the functions in PostgreSQL's source that raise whatever SQLSTATE somebody else has
// chosen: RAISE and its like, and servers that a work asks.
var relays = []string{
	"exec_stmt_raise", "PLy_output", "PLy_elog_impl", "plperl_util_elog", "pltcl_elog", "dblink_res_error", "pgfdw_report_error",
}

// isProvoked tells an error about the server's state that is the work's own doing: the server has
// said it for somebody else, or cannot be meant.
func isProvoked(err error) bool {
	var (
		ofWork *workError
		pg     *pgconn.PgError
	)
	if !errors.As(err, &ofWork) || !errors.As(err, &pg) {
		return false
	}
	switch pg.Code {
	case "25006", "53300", "57P03":
		return true // we are connected, and the fence has locked our row in this very transaction
	}
	return ofWork.isForeign || slices.Contains(relays, pg.Routine)
}

func kindOf(sqlstate string, f failure) kind {
	switch sqlstate {
	case "55P03", "40P01", "40001", // lock_not_available, deadlock_detected, serialization_failure
		"0A000": // "cached plan must not change result type": DDL has changed the table under a prepared statement, which the driver has forgotten now
		return kindContention
	case "57014": // query_canceled
		switch {
		case f.timedOut && f.alone:
			return kindOther // smaller than one row it cannot be
		case f.timedOut:
			return kindTimeout
		}
		return kindCancelled
	case "25006", "57P03": // read_only_sql_transaction, cannot_connect_now
		return kindResources
	}
	switch sqlstate[:min(2, len(sqlstate))] { // a work may make up any
	case "53":
		return kindResources
	case "42":
		return kindDefinition
	}
	return kindOther
}

//go:embed conditions.txt
var conditions string

// conditionNames maps a SQLSTATE to the name of its condition: 23514 to check_violation.
var conditionNames = sync.OnceValue(func() map[string]string {
	names := make(map[string]string)
	for line := range strings.Lines(conditions) {
		if code, name, ok := strings.Cut(strings.TrimSpace(line), " "); ok && code != "#" {
			names[code] = name
		}
	}
	return names
})

// exception describes an error for the history: the condition's name or the Go type of its root, and a message. A server's DETAIL is left out, since it
// quotes rows.
func exception(err error) (class, message string) {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		if name, known := conditionNames()[pg.Code]; known {
			return name, printable(pg.Message)
		}
		return "SQLSTATE " + pg.Code, printable(pg.Message)
	}
	if errors.Is(err, errRowRemains) {
		return "RowRemains", printable(err.Error())
	}
	var panicked *panicError
	if errors.As(err, &panicked) {
		return "panic", printable(err.Error())
	}
	root := err
	for next := errors.Unwrap(root); next != nil; next = errors.Unwrap(root) {
		root = next
	}
	return printable(fmt.Sprintf("%T", root)), printable(err.Error())
}

// printable makes any text one that a text column takes: a message is never dropped for a byte in it.
func printable(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}
