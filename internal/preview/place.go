package preview

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/work"
)

// looks are how places are looked for, each where those before it have found no row: how many of the table's pages are read, and whether only
// rows of the scope count. 200 pages put the middle within 7 % of the range 19 times in 20 (twice 0.5 / √200), and cost 200 random reads on any
// table. The second look is for scopes of few rows, the third for tables of nearly empty pages.
var looks = []struct {
	pages  float64
	scoped bool
}{{200, true}, {200, false}, {20_000, false}}

// place is a point of the range, from which sub-batches are taken.
type place struct {
	share float64
	after work.Key // nil: the beginning
}

// lastKey is where the range ends; nil for an empty table.
func (st *stage) lastKey(ctx context.Context) (work.Key, error) {
	if st.Until != nil {
		return st.Until, nil
	}
	return st.oneKey(ctx, st.statements.LastKey(), nil)
}

// places finds where to begin so that at least rows rows follow, as far as there are so many.
func (st *stage) places(ctx context.Context, until work.Key, shares []float64, rows int) ([]place, error) {
	sampled, err := st.sampledKeys(ctx, until, shares)
	if err != nil {
		return nil, err
	}
	tail, err := st.oneKeyOf(ctx, func() (string, []any) { return st.statements.Tail(until, rows) })
	if err != nil {
		return nil, err
	}
	found := make([]place, 0, len(shares))
	for i, share := range shares {
		p := place{share: share}
		switch {
		case share == 0 || tail == nil:
		case share == 1 || sampled == nil:
			p.after = tail
		default:
			// Near the end too few rows may follow: then the last ones are taken. Only the server compares keys.
			p.after = sampled[i]
			_, counted, err := st.boundary(ctx, work.Range{After: p.after, Until: until}, rows)
			if err != nil {
				return nil, err
			}
			if counted < int64(rows) {
				p.after = tail
			}
		}
		found = append(found, p)
	}
	return found, nil
}

// sampledKeys reads a few pages of the table, and returns nil where they held no row.
func (st *stage) sampledKeys(ctx context.Context, until work.Key, shares []float64) ([]work.Key, error) {
	for _, look := range looks {
		percent := 100.0
		if all := float64(st.table.Pages); look.pages < all {
			percent = 100 * look.pages / all
		}
		sql, values := st.statements.Places(until, percent, shares, look.scoped)
		rows, err := st.tx.Query(ctx, sql, values...)
		if err != nil {
			return nil, fmt.Errorf("find places in %s: %w", st.target.Name, err)
		}
		keys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (key work.Key, err error) {
			return key, row.Scan((*[]string)(&key))
		})
		if err != nil {
			return nil, fmt.Errorf("find places in %s: %w", st.target.Name, err)
		}
		if len(keys) == len(shares) {
			st.found = howFound(st.table.Pages, look.pages, look.scoped || st.Work.Scope == "")
			return keys, nil
		}
	}
	return nil, nil
}

// howFound tells how places were found.
func howFound(pages int64, read float64, scoped bool) string {
	switch {
	case !scoped:
		return "approximate: by the keys of all rows, since few are in the scope"
	case float64(pages) <= read:
		return "exact: the table is small enough to be read whole"
	}
	return fmt.Sprintf("approximate: by the keys in a random %.0f of the table's %d pages (TABLESAMPLE)", read, pages)
}

// boundary finds where the next rows of a range end, as a run does. Where none are left, key is nil.
func (st *stage) boundary(ctx context.Context, r work.Range, limit int) (key work.Key, rows int64, err error) {
	err = st.streaming(ctx, func(tx pgx.Tx) error {
		sql, values := st.statements.Boundary(r, limit, limit)
		var piece int64
		var reachedEnd bool
		return tx.QueryRow(ctx, sql, values...).Scan(&piece, (*[]string)(&key), &rows, &reachedEnd)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("find the end of a sub-batch: %w", err)
	}
	return key, rows, nil
}

// streaming calls do with the settings that boundary queries run with, and takes them back: the work does not run with them.
func (st *stage) streaming(ctx context.Context, do func(pgx.Tx) error) (err error) {
	nested, err := st.tx.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, nested.Rollback(context.WithoutCancel(ctx))) }()
	if _, err := nested.Exec(ctx, work.StreamingPlans); err != nil {
		return err
	}
	return do(nested)
}

func (st *stage) oneKeyOf(ctx context.Context, build func() (string, []any)) (work.Key, error) {
	sql, values := build()
	return st.oneKey(ctx, sql, values)
}

// oneKey reads one key; nil where there is none.
func (st *stage) oneKey(ctx context.Context, sql string, values []any) (key work.Key, err error) {
	err = st.streaming(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, sql, values...).Scan((*[]string)(&key))
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read a key of %s: %w", st.target.Name, err)
	}
	return key, nil
}

// shareText writes a share as it is typed: 0, 0.5, 1.
func shareText(share float64) string { return strconv.FormatFloat(share, 'f', -1, 64) }
