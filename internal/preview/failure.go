package preview

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/bbm-runner/bbm-runner/internal/work"
)

// explainFailure tells where a sub-batch has failed, and what helps.
func (sr *sampler) explainFailure(err error, one *SubBatch) error {
	if definition := new(work.DefinitionError); errors.As(err, &definition) {
		return err
	}
	where := fmt.Sprintf("the sub-batch of %d rows at %s of %s (after %s, until %s)",
		one.ProcessedRows, shareText(one.At), sr.target.Name, keyText(one.After), keyText(one.Until))
	if sr.isTooLong(err) {
		return fmt.Errorf("%s takes longer than the statement timeout of %s: try a smaller one (--sub-batch-size): %w", where, sr.StatementTimeout, err)
	}
	return fmt.Errorf("%s: %w", where, err)
}

// isTooLong tells whether the statement timeout has ended a sub-batch.
func (sr *sampler) isTooLong(err error) bool {
	return sqlState(err) == "57014" && sr.StatementTimeout > 0 && strings.Contains(err.Error(), "statement timeout")
}

func keyText(key work.Key) string {
	if key == nil {
		return "the beginning"
	}
	return strings.Join(key, ", ")
}

// orStopped is the context's error where it has ended, of which the server's is only the echo.
func orStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// sqlState is the server's code for an error, "" where the server did not raise it.
func sqlState(err error) string {
	var fault *pgconn.PgError
	if errors.As(err, &fault) {
		return fault.Code
	}
	return ""
}
