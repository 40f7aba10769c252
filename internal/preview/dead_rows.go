package preview

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
)

// DeadRows are row versions that the rollbacks leave in a table until VACUUM: what was inserted,
// and the new versions of what was updated. A delete that is rolled back leaves none.
type DeadRows struct {
	Table string `json:"table"` // partitions count with their root
	Rows  int64  `json:"rows"`
}

// deadRows adds up what is rolled back, whoever wrote it: the statement, a trigger, a foreign key.
type deadRows struct {
	oids   map[uint32]bool // what was written before, whose counts may still show in the next transaction
	byName map[string]int64
}

// written is what the transaction counts for each table so far.
func (d *deadRows) written(ctx context.Context, tx pgx.Tx) (map[uint32]int64, error) {
	rows, err := queries.PreviewWrittenList(ctx, tx, slices.Collect(maps.Keys(d.oids)))
	if err != nil {
		return nil, fmt.Errorf("read what was written: %w", err)
	}
	counts := make(map[uint32]int64, len(rows))
	for _, row := range rows {
		counts[row.Oid] = row.Versions
	}
	return counts, nil
}

// add counts what the transaction has written since the counts were those.
func (d *deadRows) add(ctx context.Context, tx pgx.Tx, before map[uint32]int64) error {
	rows, err := queries.PreviewWrittenList(ctx, tx, slices.Collect(maps.Keys(d.oids)))
	if err != nil {
		return fmt.Errorf("read what was written: %w", err)
	}
	if d.oids == nil {
		d.oids, d.byName = make(map[uint32]bool), make(map[string]int64)
	}
	for _, row := range rows {
		d.oids[row.Oid] = true
		d.byName[row.RootName] += row.Versions - before[row.Oid]
	}
	return nil
}

// list is in the order of the names.
func (d *deadRows) list() []DeadRows {
	all := []DeadRows{}
	for _, name := range slices.Sorted(maps.Keys(d.byName)) {
		if d.byName[name] > 0 {
			all = append(all, DeadRows{Table: name, Rows: d.byName[name]})
		}
	}
	return all
}
