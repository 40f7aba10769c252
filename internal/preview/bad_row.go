package preview

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/bbm-runner/bbm-runner/internal/work"
)

// mostBadRows is how many rows that fail are looked for at one place: each takes about log2 of a
// sub-batch tries, whose dead rows stay.
const mostBadRows = 3

// BadRange is one that failed on its data and was left out: mostly a single row, that of the key
// Until.
type BadRange struct {
	At    float64  `json:"at"`
	After work.Key `json:"after"`
	Until work.Key `json:"until"`
	Rows  int64    `json:"rows"` // above 1 where none fails alone, or keys are repeated
	Error string   `json:"error"`
}

// isOf tells whether another range says the same: one place is walked with two sizes.
func (b BadRange) isOf(other BadRange) bool {
	return slices.Equal(b.Until, other.Until) || b.At == other.At && slices.Equal(b.After, other.After)
}

// narrow halves a sub-batch that failed on its data until a row fails alone, as a run does, but
// that each half is rolled back. A half that succeeds is not suspected any more. What fails only
// together is left out together.
func (sr *sampler) narrow(ctx context.Context, failed SubBatch, cause error) (BadRange, error) {
	bad := BadRange{At: failed.At, After: failed.After, Until: failed.Until, Rows: failed.ProcessedRows, Error: dataError(cause)}
	after, suspects := failed.After, failed.ProcessedRows
	for suspects > 0 && !sr.Work.RepeatedKeys {
		half := SubBatch{At: failed.At, Number: failed.Number, After: after}
		if _, err := sr.bound(ctx, &half, int(suspects+1)/2); err != nil {
			return bad, err
		}
		if half.Until == nil {
			break // they are gone
		}
		err := sr.attempt(ctx, &half)
		switch {
		case err == nil:
			after, suspects = half.Until, suspects-half.ProcessedRows
		case !work.BlamesRow(err):
			return bad, err
		case half.ProcessedRows == 1:
			return BadRange{At: failed.At, After: half.After, Until: half.Until, Rows: 1, Error: dataError(err)}, nil
		default:
			suspects = half.ProcessedRows
		}
	}
	return bad, nil
}

// dataError is what the server or the work says of the data, without the place.
func dataError(err error) string {
	var fault *pgconn.PgError
	if errors.As(err, &fault) {
		return fault.Error()
	}
	var ofRow *work.RowError
	if errors.As(err, &ofRow) {
		return ofRow.Error()
	}
	return err.Error()
}

// noteBad tells of what was left out.
func (sr *sampler) noteBad(s *Sampling) {
	for _, bad := range s.BadRanges {
		if bad.Rows == 1 {
			s.Notes = append(s.Notes, warning("bad_row", "the row with (%s) = (%s) fails, and was left out: %s; a run fails on it, or leaves it out "+
				"where on_row_error is quarantine", work.WriteNames(sr.Work.Cursor), keyText(bad.Until), bad.Error))
			continue
		}
		s.Notes = append(s.Notes, warning("bad_range", "%d rows at %s (after %s, until %s) fail together, and were left out: %s",
			bad.Rows, shareText(bad.At), keyText(bad.After), keyText(bad.Until), bad.Error))
	}
}
