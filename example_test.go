package bbm_test

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	bbm "github.com/bbm-runner/bbm-runner"
)

// A program with one work in Go. It has every command: schema up, enqueue, run, status and the others.
func ExampleMain() {
	bbm.Main(bbm.Work{
		Name:        "close_stale_carts",
		Version:     "1",
		Description: "Close carts that nobody has touched since the given day.",
		Table:       "shop.carts",
		Cursor:      []string{"tenant_id", "id"},
		Arguments:   []bbm.Argument{{Name: "before", Type: "date"}},
		Do: func(ctx context.Context, tx pgx.Tx, b bbm.Batch) (int64, error) {
			return b.Exec(ctx, tx, `
				UPDATE shop.carts AS c
				SET status = 'closed'
				WHERE @batch(c)
				  AND c.status = 'open'
				  AND c.touched_at < @before`)
		},
	})
}

// Rows that SQL cannot compute are read, changed in Go, and written back in one statement.
func ExampleBatch_Query() {
	splitNames := func(ctx context.Context, tx pgx.Tx, b bbm.Batch) (int64, error) {
		rows, err := b.Query(ctx, tx, `
			SELECT p.id, p.full_name
			FROM app.people AS p
			WHERE @batch(p)
			  AND p.last_name IS NULL
			ORDER BY p.id
			FOR NO KEY UPDATE`)
		if err != nil {
			return 0, err
		}
		var (
			ids       []int64
			lastNames []string
			id        int64
			fullName  string
		)
		_, err = pgx.ForEachRow(rows, []any{&id, &fullName}, func() error {
			words := strings.Fields(fullName)
			if len(words) == 0 {
				return nil
			}
			ids = append(ids, id)
			lastNames = append(lastNames, words[len(words)-1])
			return nil
		})
		if err != nil {
			return 0, err
		}
		tag, err := tx.Exec(ctx, `
			UPDATE app.people AS p
			SET last_name = v.last_name
			FROM unnest($1::bigint[], $2::text[]) AS v (id, last_name)
			WHERE p.id = v.id`, ids, lastNames)
		return tag.RowsAffected(), err
	}
	bbm.Main(bbm.Work{Name: "split_names", Version: "1", Table: "app.people", Cursor: []string{"id"}, Do: splitNames})
}

// A row that cannot be read is left out, or fails the migration with its key, as the migration
// says; all others are changed.
func ExampleRowError() {
	readAmounts := func(ctx context.Context, tx pgx.Tx, b bbm.Batch) (int64, error) {
		rows, err := b.Query(ctx, tx, `SELECT o.id, o.amount_text FROM shop.orders AS o WHERE @batch(o) AND o.cents IS NULL ORDER BY o.id FOR NO KEY UPDATE`)
		if err != nil {
			return 0, err
		}
		var (
			ids, cents []int64
			id         int64
			text       string
		)
		_, err = pgx.ForEachRow(rows, []any{&id, &text}, func() error {
			amount, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return &bbm.RowError{Err: fmt.Errorf("order %d: %w", id, err)}
			}
			ids, cents = append(ids, id), append(cents, int64(math.Round(amount*100)))
			return nil
		})
		if err != nil {
			return 0, err
		}
		tag, err := tx.Exec(ctx, `
			UPDATE shop.orders AS o
			SET cents = v.cents
			FROM unnest($1::bigint[], $2::bigint[]) AS v (id, cents)
			WHERE o.id = v.id`, ids, cents)
		return tag.RowsAffected(), err
	}
	bbm.Main(bbm.Work{Name: "read_amounts", Version: "1", Table: "shop.orders", Cursor: []string{"id"}, Do: readAmounts})
}
