package work

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// RowError is how a work in Go says that the data of one of its rows are at fault.
type RowError struct{ Err error }

func (e *RowError) Error() string { return e.Err.Error() }
func (e *RowError) Unwrap() error { return e.Err }

// raiseException is the SQLSTATE of a trigger's or a function's RAISE.
const raiseException = "P0001"

// BlamesRow reports whether an error is about the data of a row, so that the row is worth looking
// for: a [*RowError], or one of the server about a value or a constraint, or raised by a trigger.
func BlamesRow(err error) bool {
	var fault *pgconn.PgError
	if errors.As(err, &fault) && (fault.Code == raiseException || strings.HasPrefix(fault.Code, "22") || strings.HasPrefix(fault.Code, "23")) {
		return true
	}
	var ofRow *RowError
	return errors.As(err, &ofRow)
}
