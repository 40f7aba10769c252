package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// swapTable puts an empty table in the place of one for a while: nothing may be finished by it. The
// application and enqueues keep away meanwhile; the runners do not.
func swapTable(ctx context.Context, r *round, rng *rand.Rand) bool {
	k, length := r.kinds[rng.IntN(len(r.kinds))], milliseconds(rng, 0, 1000)
	place := &r.ledgers[k.name].place
	place.Lock()
	const patience = `SET lock_timeout = '2s'`
	r.execAll(ctx, patience, fmt.Sprintf(`BEGIN; ALTER TABLE app.%[1]s RENAME TO %[1]s_away; CREATE TABLE app.%[1]s (LIKE app.%[1]s_away INCLUDING ALL); COMMIT`, k.name))
	r.later(ctx, length, func() {
		defer place.Unlock()
		// Where the swap was not done, or it is not known, there may be nothing to take back.
		back := fmt.Sprintf(`DO $$ BEGIN IF to_regclass('app.%[1]s_away') IS NOT NULL THEN DROP TABLE app.%[1]s; ALTER TABLE app.%[1]s_away RENAME TO %[1]s; END IF; END $$`, k.name)
		for !r.execAll(ctx, patience, back) && ctx.Err() == nil {
			pause(ctx, 50*time.Millisecond)
		}
	})
	return true
}

// changeTable is a schema change that a deploy makes beside a migration: statements that are
// prepared have to notice.
func changeTable(ctx context.Context, r *round, rng *rand.Rand) bool {
	k := r.kinds[rng.IntN(len(r.kinds))]
	changes := []string{
		`ALTER TABLE app.%[1]s ADD COLUMN extra int DEFAULT 7`,
		`ALTER TABLE app.%[1]s DROP COLUMN IF EXISTS extra`,
		`CREATE INDEX extra_%[1]s ON app.%[1]s (note)`,
		`DROP INDEX IF EXISTS app.extra_%[1]s`,
		`ALTER TABLE app.%[1]s ALTER COLUMN note TYPE int`,
		`VACUUM (ANALYZE) app.%[1]s`,
	}
	change := changes[rng.IntN(len(changes))]
	place := &r.ledgers[k.name].place
	place.RLock()
	defer place.RUnlock()
	return r.execAll(ctx, `SET lock_timeout = '1s'`, fmt.Sprintf(change, k.name))
}

// readOnly is the brake of a DBA: the application is refused, and so are the runners.
func readOnly(ctx context.Context, r *round, rng *rand.Rand) bool {
	length := milliseconds(rng, 0, 2000)
	const reload = `SELECT pg_reload_conf()`
	if !r.execAll(ctx, `ALTER SYSTEM SET default_transaction_read_only = on`, reload) {
		return false
	}
	r.later(ctx, length, func() {
		for !r.execAll(ctx, `ALTER SYSTEM RESET default_transaction_read_only`, reload) && ctx.Err() == nil {
			pause(ctx, 50*time.Millisecond)
		}
	})
	return true
}
