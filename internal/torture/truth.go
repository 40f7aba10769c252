package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// row is one of a table at the end.
type row struct {
	Tag    int64
	Note   int
	Counts []int
	Proved bool
}

// outcome is what became of a migration.
type outcome struct {
	*migration
	status   string
	affected int // rows, as the jobs have it
	maxKey   []string
}

// checkTable compares a table with the application's ledger and with what its migrations should have done.
func (r *round) checkTable(ctx context.Context, conn *pgx.Conn, k kind) error {
	result, err := conn.Query(ctx, fmt.Sprintf(`SELECT tag, note, counts, proved FROM app.%s`, k.name))
	if err != nil {
		return err
	}
	rows, err := pgx.CollectRows(result, pgx.RowToStructByPos[row])
	if err != nil {
		return err
	}
	r.checkLedger(k, rows)
	for _, m := range r.migrations {
		if m.kind.name != k.name {
			continue
		}
		o := outcome{migration: m}
		err := conn.QueryRow(ctx, `
			SELECT m.status::text, m.max_key, coalesce(sum(j.affected_rows), 0)::int
			FROM bbm.batched_background_migrations AS m
			LEFT JOIN bbm.batched_background_migration_jobs AS j ON j.batched_background_migration_id = m.id
			WHERE m.name = $1
			GROUP BY m.id`, m.name).Scan(&o.status, &o.maxKey, &o.affected)
		if err != nil {
			return fmt.Errorf("migration %s: %w", m.name, err)
		}
		r.checkTurn(o, rows)
		if !o.proves() {
			err = r.checkBound(ctx, conn, o)
		} else { // its passes go beyond the bound
			err = r.checkProof(ctx, conn, o, rows)
		}
		if err != nil {
			return err
		}
		if m.work == k.name+"_"+workMark {
			if err := r.checkMarks(ctx, conn, o, rows); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkLedger proves that nothing of the application's own was lost.
func (r *round) checkLedger(k kind, rows []row) {
	ledger := r.ledgers[k.name]
	seen := make(map[int64]bool)
	for _, found := range rows {
		seen[found.Tag] = true
		switch e := ledger.entries[found.Tag]; {
		case e == nil:
			r.complain(&r.other, "%s: nobody has inserted row %d", k.name, found.Tag)
		case e.deleted:
			r.complain(&r.other, "%s: row %d is there, and was deleted", k.name, found.Tag)
		case found.Note < e.sure || found.Note > e.sure+e.maybe:
			r.complain(&r.other, "%s: row %d was updated %d times by the application, which knows of %d to %d", k.name, found.Tag, found.Note, e.sure, e.sure+e.maybe)
		}
	}
	for tag, e := range ledger.entries {
		if !seen[tag] && !e.born.IsZero() && !e.gone {
			r.complain(&r.lost, "%s: row %d is not there any more", k.name, tag)
		}
	}
}

// checkTurn counts how often a migration has changed each row: never twice; and once, where it is finished and the row was there all the time.
func (r *round) checkTurn(o outcome, rows []row) {
	ledger, total := r.ledgers[o.kind.name], 0
	for _, found := range rows {
		n, e := found.Counts[o.turn-1], ledger.entries[found.Tag]
		total += n
		if e == nil {
			continue // checkLedger has told
		}
		switch {
		case n > 1:
			r.complain(&r.twice, "%s: row %d was changed %d times", o.name, found.Tag, n)
		case n == 0 && o.status == "finished" && !o.proves() && !e.born.IsZero() && e.born.Before(o.asked) && !e.gone:
			r.complain(&r.lost, "%s: row %d was not changed", o.name, found.Tag)
		}
	}
	if total > o.affected {
		r.complain(&r.other, "%s: %d rows are changed, and its jobs know of %d", o.name, total, o.affected)
	}
}

// proves tells whether the migration proves that it is finished.
func (m *migration) proves() bool { return strings.HasSuffix(m.work, workProve) }

// checkProof holds "finished" to its proof: no row is of the old form, nor left out by now, whose
// transaction had begun when the clean walk did. A row is of the new form because it was written
// so, or because the migration has changed it: there is one such for each table.
func (r *round) checkProof(ctx context.Context, conn *pgx.Conn, o outcome, rows []row) error {
	if o.status != "finished" {
		return nil
	}
	var began *time.Time // null: the table was empty, which none here is
	err := conn.QueryRow(ctx, `
		SELECT max(v.created_at)
		FROM bbm.batched_background_migration_verifications AS v
		JOIN bbm.batched_background_migrations AS m ON m.id = v.batched_background_migration_id
		WHERE m.name = $1 AND v.finished_at IS NOT NULL AND v.remaining_rows = 0`, o.name).Scan(&began)
	if err != nil {
		return err
	}
	if began == nil {
		r.complain(&r.lost, "%s: finished, and no walk proves it", o.name)
		return nil
	}
	ledger := r.ledgers[o.kind.name]
	for _, found := range rows {
		e := ledger.entries[found.Tag]
		switch {
		case e == nil: // checkLedger has told
		case found.Proved != (e.isNew || found.Counts[o.turn-1] == 1):
			r.complain(&r.other, "%s: row %d was changed %d times, and is proved: %t", o.name, found.Tag, found.Counts[o.turn-1], found.Proved)
		case !found.Proved && !e.born.IsZero() && e.born.Before(*began) && !e.gone:
			r.complain(&r.lost, "%s: finished, and row %d remains", o.name, found.Tag)
		}
	}
	return nil
}

// checkBound proves that nothing above the upper bound was changed.
func (r *round) checkBound(ctx context.Context, conn *pgx.Conn, o outcome) error {
	var above int
	err := conn.QueryRow(ctx, fmt.Sprintf(`SELECT count(*) FROM app.%s AS t WHERE t.counts[$2] > 0 AND %s`, o.kind.name, o.kind.above), o.maxKey, o.turn).Scan(&above)
	if err == nil && above > 0 {
		r.complain(&r.other, "%s: %d rows above its upper bound were changed", o.name, above)
	}
	return err
}

// checkMarks counts the rows that a work has inserted elsewhere: one for each that it changed, also where that is gone now.
func (r *round) checkMarks(ctx context.Context, conn *pgx.Conn, o outcome, rows []row) error {
	result, err := conn.Query(ctx, fmt.Sprintf(`SELECT tag, count(*)::int FROM app.%s_marks WHERE turn = $1 GROUP BY tag`, o.kind.name), o.turn)
	if err != nil {
		return err
	}
	marks, total := make(map[int64]int), 0
	var tag int64
	var n int
	if _, err := pgx.ForEachRow(result, []any{&tag, &n}, func() error {
		marks[tag] = n
		total += n
		if n > 1 {
			r.complain(&r.twice, "%s: row %d was marked %d times", o.name, tag, n)
		}
		return nil
	}); err != nil {
		return err
	}
	if total != o.affected {
		r.complain(&r.other, "%s: %d rows are marked, and its jobs know of %d", o.name, total, o.affected)
	}
	for _, found := range rows {
		if n := found.Counts[o.turn-1]; n != marks[found.Tag] {
			r.complain(&r.lost, "%s: row %d was changed %d times and marked %d times", o.name, found.Tag, n, marks[found.Tag])
		}
	}
	return nil
}
