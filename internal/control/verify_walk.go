package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/bbm-runner/bbm-runner/internal/work"
)

// queryCancelled is the SQLSTATE of a statement whose time ran out.
const queryCancelled = "57014"

// walk reads the whole table piece by piece.
func (c *Control) walk(ctx context.Context, migrationID int64, target work.Target, statements *work.Statements, found func(work.Piece)) error {
	var last []string
	err := c.inWalk(ctx, target, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, statements.LastKeyOfAll()).Scan(&last)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("read the last key: %w", err)
	}
	if last == nil {
		return nil
	}
	size, rest := work.NewPieceSize(work.DefaultBatchSize), work.Range{Until: last}
	for isOver := false; !isOver; {
		var piece work.Piece
		began := time.Now()
		err := c.inWalk(ctx, target, func(tx pgx.Tx) (err error) {
			leftOut, err := queries.QuarantineListKeys(ctx, tx, migrationID)
			if err != nil {
				return fmt.Errorf("list the rows left out: %w", err)
			}
			piece, err = statements.LookThrough(ctx, tx, rest, size.Rows(), leftOut)
			return err
		})
		var fault *pgconn.PgError
		if errors.As(err, &fault) && fault.Code == queryCancelled && ctx.Err() == nil && size.Lose() {
			continue // the statement timeout: a smaller piece may do
		}
		if err != nil {
			return err
		}
		size.Observe(piece.Rows, time.Since(began))
		found(piece)
		rest.After, isOver = piece.Until, piece.IsLast(rest)
	}
	return nil
}

var readOnly = pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadOnly}

// inWalk gives do a transaction with the settings of a walk, in which nothing can be written, and
// makes sure that what do has read is the target.
func (c *Control) inWalk(ctx context.Context, target work.Target, do func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, c.Conn, readOnly, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, work.StreamingPlans); err != nil {
			return fmt.Errorf("set up the look for rows that remain: %w", err)
		}
		if err := do(tx); err != nil {
			return err
		}
		return work.CheckStands(ctx, tx, target)
	})
}
