package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// prove reads from the data and the history what has happened, and compares the rate with that of one plain UPDATE of the same rows.
func (d *demo) prove(ctx context.Context) error {
	var once, never, more int64
	err := d.timed("Counting how often each row was changed", func() error {
		return d.control.Conn.QueryRow(ctx, `
			SELECT count(*) FILTER (WHERE a.balance = 1), count(*) FILTER (WHERE a.balance = 0), count(*) FILTER (WHERE a.balance > 1)
			FROM `+d.schema+`.accounts AS a`).Scan(&once, &never, &more)
	})()
	if err != nil {
		return fmt.Errorf("count the changed rows: %w", err)
	}
	jobs, err := d.counts(ctx, `
		SELECT 'jobs ' || j.status, count(*)
		FROM bbm.batched_background_migration_jobs AS j
		JOIN bbm.batched_background_migrations AS m ON m.id = j.batched_background_migration_id
		WHERE m.name = $1 GROUP BY j.status ORDER BY j.status`)
	if err != nil {
		return err
	}
	transitions, err := d.counts(ctx, `
		SELECT concat('  ', coalesce(l.previous_status::text, '(cut)'), ' → ', l.next_status, ' (' || l.exception_class || ')'), count(*)
		FROM bbm.batched_background_migration_job_transition_logs AS l
		JOIN bbm.batched_background_migration_jobs AS j ON j.id = l.batched_background_migration_job_id
		JOIN bbm.batched_background_migrations AS m ON m.id = j.batched_background_migration_id
		WHERE m.name = $1 GROUP BY l.previous_status, l.next_status, l.exception_class ORDER BY min(l.id)`)
	if err != nil {
		return err
	}
	rate, err := d.migrationRate(ctx)
	if err != nil {
		return err
	}
	plainRate, err := d.plainRate(ctx)
	if err != nil {
		return err
	}

	rows := [][]string{
		{"rows changed exactly once", count(once)},
		{"rows never changed", count(never)},
		{"rows changed more than once", count(more)},
	}
	rows = append(rows, jobs...)
	rows = append(rows, []string{"transitions logged", ""})
	rows = append(rows, transitions...)
	rows = append(rows,
		[]string{"rate of undisturbed jobs", perSecond(rate)},
		[]string{"rate of one plain UPDATE", perSecond(plainRate)})
	d.say("The proof, from the data and the history:")
	d.printTable(d.Stdout, []string{"what", "result"}, rows)
	if never != 0 || more != 0 || once != int64(d.rows) {
		return fmt.Errorf("the proof fails: %d rows were not changed exactly once", never+more)
	}
	return nil
}

// counts runs a query of a text and a number about the demo's migration.
func (d *demo) counts(ctx context.Context, sql string) ([][]string, error) {
	rows, err := d.control.Conn.Query(ctx, sql, d.name)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]string, error) {
		var what string
		var n int64
		err := row.Scan(&what, &n)
		return []string{what, count(n)}, err
	})
}

// migrationRate is that of the jobs that were neither interrupted nor lost, in rows per second.
func (d *demo) migrationRate(ctx context.Context) (rate float64, err error) {
	err = d.control.Conn.QueryRow(ctx, `
		SELECT coalesce(sum(j.processed_rows) / extract(EPOCH FROM sum(j.finished_at - j.started_at)), 0)::double precision
		FROM bbm.batched_background_migration_jobs AS j
		JOIN bbm.batched_background_migrations AS m ON m.id = j.batched_background_migration_id
		WHERE m.name = $1 AND j.status = 'succeeded' AND j.claims = 1`, d.name).Scan(&rate)
	return rate, err
}

func (d *demo) plainRate(ctx context.Context) (float64, error) {
	began := time.Now()
	err := d.timed("Changing the copy by one plain UPDATE", func() error {
		_, err := d.control.Conn.Exec(ctx, `UPDATE `+d.schema+`.twins SET balance = balance + 1`)
		return err
	})()
	if err != nil {
		return 0, fmt.Errorf("run the plain UPDATE: %w", err)
	}
	return float64(d.rows) / time.Since(began).Seconds(), nil
}
