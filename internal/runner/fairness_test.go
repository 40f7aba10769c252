package runner_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/work"
)

// crowd is how many migrations stand in the way.
const crowd = 1_000

// crowded makes that many tables of two rows and a work for each, and a migration for each that is
// under way, the next to be claimed, but for the columns that the settings change.
func (w *world) crowded(n int, settings string) (works []*work.Work) {
	w.t.Helper()
	w.exec(`CREATE SCHEMA crowd`)
	w.exec(fmt.Sprintf(`DO $$ BEGIN FOR i IN 1..%d LOOP
		EXECUTE format('CREATE TABLE crowd.t%%s (id bigint PRIMARY KEY, n integer NOT NULL DEFAULT 0)', i);
		EXECUTE format('INSERT INTO crowd.t%%s VALUES (1), (2)', i);
	END LOOP; END $$`, n))
	names, checksums := make([]string, n), make([]string, n)
	for i := range n {
		names[i] = fmt.Sprintf("t%d", i+1)
		src := fmt.Sprintf("-- description: d\n-- table: crowd.%s\n-- cursor: id\n-- remaining: n = 0\n-- +bbm Work\nUPDATE crowd.%[1]s AS t SET n = n + 1 WHERE @batch(t)", names[i])
		works = append(works, parse(w.t, names[i], src))
		checksums[i] = works[i].Checksum()
	}
	w.exec(`INSERT INTO bbm.batched_background_migrations (name, work_name, work_checksum, table_name, table_oid, root_table_oid, cursor_columns, max_key,
			batch_size, sub_batch_size, status, last_claimed_at, remaining_predicate)
		SELECT c.name, c.name, c.checksum, 'crowd.' || c.name, ('crowd.' || c.name)::regclass, ('crowd.' || c.name)::regclass, '{id}', '{2}',
			1, 1, 'running', now() - interval '1 day', 'n = 0'
		FROM unnest($1::text[], $2::text[]) AS c (name, checksum)`, names, checksums)
	if settings != "" {
		w.exec(`UPDATE bbm.batched_background_migrations SET ` + settings)
	}
	return works
}

// obstacles keep a crowd of migrations from being claimed, each in its way.
var obstacles = map[string]func(w *world) []*work.Work{
	"proofs that wait for an old transaction": func(w *world) []*work.Work {
		works := w.crowded(crowd, `frontier_key = max_key`)
		w.holder(`SELECT txid_current()`)
		w.exec(`INSERT INTO bbm.batched_background_migration_verifications (batched_background_migration_id, pass, passes_left, work_checksum, awaited_transactions)
			SELECT m.id, 1, 3, m.work_checksum, bbm.open_transactions() FROM bbm.batched_background_migrations AS m`)
		return works
	},
	"bounds that wait for an old transaction": func(w *world) []*work.Work {
		works := w.crowded(crowd, `max_key = NULL, status = 'active'`)
		w.holder(`SELECT txid_current()`)
		w.exec(`UPDATE bbm.batched_background_migrations SET awaited_transactions = bbm.open_transactions()`)
		return works
	},
	"parallelism": func(w *world) []*work.Work {
		works := w.crowded(crowd, `frontier_key = '{1}'`)
		w.exec(`UPDATE bbm.fleet_settings SET slots = 2`)
		w.holder(`SELECT pg_advisory_lock(1650617601, 2)`)
		w.exec(`INSERT INTO bbm.batched_background_migration_jobs (batched_background_migration_id, until_key, status, claims, slot)
			SELECT m.id, '{1}', 'running', 1, 2 FROM bbm.batched_background_migrations AS m`)
		return works
	},
	"a paused migration's last sub-batch on their table": func(w *world) []*work.Work {
		works := w.crowded(crowd, `root_table_oid = 1, status = 'active'`)
		w.exec(`UPDATE bbm.fleet_settings SET slots = 2`)
		w.holder(`SELECT pg_advisory_lock(1650617601, 2)`)
		w.exec(`UPDATE bbm.batched_background_migrations SET status = 'paused' WHERE name = 't1'`)
		w.exec(`INSERT INTO bbm.batched_background_migration_jobs (batched_background_migration_id, until_key, status, claims, slot)
			SELECT m.id, '{1}', 'running', 1, 2 FROM bbm.batched_background_migrations AS m WHERE m.name = 't1'`)
		return works
	},
	"locked rows": func(w *world) []*work.Work {
		works := w.crowded(crowd, ``)
		w.holder(`SELECT FROM bbm.batched_background_migrations FOR UPDATE`)
		return works
	},
	"locked rows of new ones": func(w *world) []*work.Work {
		works := w.crowded(crowd, `max_key = NULL, status = 'active'`)
		w.holder(`SELECT FROM bbm.batched_background_migrations FOR UPDATE`)
		return works
	},
	"locked tables": func(w *world) []*work.Work {
		works := w.crowded(crowd, ``)
		w.holder(`DO $$ BEGIN FOR i IN 1..1000 LOOP EXECUTE format('LOCK TABLE crowd.t%s', i); END LOOP; END $$`)
		return works
	},
	"locked tables of new ones": func(w *world) []*work.Work {
		works := w.crowded(crowd, `max_key = NULL, status = 'active'`)
		w.holder(`DO $$ BEGIN FOR i IN 1..1000 LOOP EXECUTE format('LOCK TABLE crowd.t%s', i); END LOOP; END $$`)
		return works
	},
}

func TestWhatCannotBeClaimedNowKeepsNothingElseWaitingHoweverMuchOfItThereIs(t *testing.T) {
	for name, obstruct := range obstacles {
		t.Run(name, func(t *testing.T) {
			w := setup(t, 20)
			works := obstruct(w)
			w.enqueue("count", "public.items", 1, 1)
			w.exec(`UPDATE bbm.batched_background_migrations SET awaited_transactions = '{}' WHERE name = 'count'`)
			stop := w.start(w.runner(w.daemon(), append(works, parse(t, "count", increment))...))
			w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations WHERE name = 'count'`)
			require.NoError(t, stop())
			w.eachOnce("count")
		})
	}
}
