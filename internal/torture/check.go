package main

import (
	"context"
	"fmt"
	"runtime"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

// judge collects what dbtest's checker holds against a migration's history.
type judge struct {
	round *round
	name  string
}

func (j judge) Helper()  {}
func (j judge) FailNow() { runtime.Goexit() }
func (j judge) Errorf(format string, args ...any) {
	j.round.complain(&j.round.unlogged, "history of %s: %s", j.name, strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " "))
}

// check proves, with no runner left, that the histories are whole and that each row was changed as often as it should.
func (r *round) check(ctx context.Context) {
	err := r.connected(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		for _, m := range r.migrations {
			done := make(chan struct{})
			go func() { // FailNow ends the goroutine
				defer close(done)
				dbtest.CheckHistory(judge{r, m.name}, conn, m.name)
			}()
			<-done
		}
		for _, k := range r.kinds {
			if err := r.checkTable(ctx, conn, k); err != nil {
				return fmt.Errorf("table %s: %w", k.name, err)
			}
		}
		var leftOut int
		if err := conn.QueryRow(ctx, `SELECT count(*) FROM bbm.batched_background_migration_quarantined_rows AS q
			JOIN bbm.batched_background_migrations AS m ON m.id = q.batched_background_migration_id
			WHERE m.status = 'finished' AND q.mended_at IS NULL`).Scan(&leftOut); err != nil {
			return err
		}
		if leftOut > 0 {
			r.complain(&r.lost, "%d rows are left out still", leftOut)
		}
		return conn.QueryRow(ctx, `
			SELECT count(DISTINCT m.id), count(j.id), coalesce(sum(j.affected_rows), 0)::bigint
			FROM bbm.batched_background_migrations AS m
			LEFT JOIN bbm.batched_background_migration_jobs AS j ON j.batched_background_migration_id = m.id`).Scan(&r.migrated, &r.jobs, &r.changed)
	})
	if err != nil && ctx.Err() == nil {
		r.complain(&r.other, "the check could not be made: %s", err)
	}
}
