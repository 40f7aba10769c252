package runner_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/runner"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// badRow is a condition that the row 15 of a table raises: {t} and {name} stand for its table, whose rows all hold the text hunter2.
type badRow struct{ make, set, mend, class string }

var badRows = map[string]badRow{
	"check": {make: `ALTER TABLE {t} ADD CONSTRAINT {name}_c CHECK (id <> 15 OR n = 0)`, mend: `ALTER TABLE {t} DROP CONSTRAINT {name}_c`, class: "check_violation"},
	"unique": {
		make: `ALTER TABLE {t} ADD COLUMN u text CONSTRAINT {name}_c UNIQUE`, set: `u = CASE WHEN i.id IN (13, 15) THEN i.secret END`,
		mend: `ALTER TABLE {t} DROP CONSTRAINT {name}_c`, class: "unique_violation",
	},
	"unique_at_commit": {
		make: `ALTER TABLE {t} ADD COLUMN u text, ADD CONSTRAINT {name}_c UNIQUE (u) DEFERRABLE INITIALLY DEFERRED`, set: `u = CASE WHEN i.id IN (13, 15) THEN i.secret END`,
		mend: `ALTER TABLE {t} DROP CONSTRAINT {name}_c`, class: "unique_violation",
	},
	"foreign_key": {
		make: `CREATE TABLE {t}_parent (id text PRIMARY KEY); ALTER TABLE {t} ADD COLUMN parent text REFERENCES {t}_parent`,
		set:  `parent = CASE WHEN i.id = 15 THEN i.secret END`, mend: `INSERT INTO {t}_parent VALUES ('hunter2')`, class: "foreign_key_violation",
	},
	"foreign_key_at_commit": {
		make: `CREATE TABLE {t}_parent (id text PRIMARY KEY); ALTER TABLE {t} ADD COLUMN parent text REFERENCES {t}_parent DEFERRABLE INITIALLY DEFERRED`,
		set:  `parent = CASE WHEN i.id = 15 THEN i.secret END`, mend: `INSERT INTO {t}_parent VALUES ('hunter2')`, class: "foreign_key_violation",
	},
	"not_null": {
		make: `ALTER TABLE {t} ADD COLUMN u text NOT NULL DEFAULT ''`, set: `u = CASE WHEN i.id <> 15 THEN 'x' END`,
		mend: `ALTER TABLE {t} ALTER COLUMN u DROP NOT NULL`, class: "not_null_violation",
	},
	"exclusion": {
		make: `ALTER TABLE {t} ADD COLUMN u text, ADD CONSTRAINT {name}_c EXCLUDE (u WITH =)`, set: `u = CASE WHEN i.id IN (13, 15) THEN i.secret END`,
		mend: `ALTER TABLE {t} DROP CONSTRAINT {name}_c`, class: "exclusion_violation",
	},
	"division": {
		make: `ALTER TABLE {t} ADD COLUMN d int NOT NULL DEFAULT 1; UPDATE {t} SET d = 0 WHERE id = 15`, set: `d = 1 / i.d`,
		mend: `UPDATE {t} SET d = 1 WHERE id = 15`, class: "division_by_zero",
	},
	"out_of_range": {
		make: `ALTER TABLE {t} ADD COLUMN d bigint NOT NULL DEFAULT 1, ADD COLUMN u smallint; UPDATE {t} SET d = 40000 WHERE id = 15`, set: `u = i.d::smallint`,
		mend: `UPDATE {t} SET d = 1 WHERE id = 15`, class: "numeric_value_out_of_range",
	},
	"too_long": {
		make: `ALTER TABLE {t} ADD COLUMN d text NOT NULL DEFAULT 'ab', ADD COLUMN u varchar(3); UPDATE {t} SET d = 'abcd' WHERE id = 15`, set: `u = i.d`,
		mend: `UPDATE {t} SET d = 'ab' WHERE id = 15`, class: "string_data_right_truncation",
	},
	"no_number": {
		make: `ALTER TABLE {t} ADD COLUMN d text NOT NULL DEFAULT '1', ADD COLUMN u int; UPDATE {t} SET d = 'one' WHERE id = 15`, set: `u = i.d::int`,
		mend: `UPDATE {t} SET d = '1' WHERE id = 15`, class: "invalid_text_representation",
	},
	"trigger": {
		make: `CREATE FUNCTION {t}_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no' USING DETAIL = OLD.secret, HINT = OLD.secret; END $$;
			CREATE TRIGGER refuse BEFORE UPDATE ON {t} FOR EACH ROW WHEN (NEW.id = 15) EXECUTE FUNCTION {t}_refuse()`,
		mend: `DROP TRIGGER refuse ON {t}`, class: "raise_exception",
	},
	"trigger_at_commit": {
		make: `CREATE FUNCTION {t}_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no' USING DETAIL = OLD.secret; END $$;
			CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON {t} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.id = 15) EXECUTE FUNCTION {t}_refuse()`,
		mend: `DROP TRIGGER refuse ON {t}`, class: "raise_exception",
	},
}

// Each table has thirty rows in jobs of ten, and one runner runs them all.
func TestABadRowIsAFailedAttemptAndNothingOfARowIsTold(t *testing.T) {
	w := setup(t, 0)
	var works []*work.Work
	for name, bad := range badRows {
		expand := strings.NewReplacer("{t}", "public."+name, "{name}", name)
		w.exec(expand.Replace(`CREATE TABLE {t} (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0, secret text NOT NULL DEFAULT 'hunter2')`))
		w.exec(expand.Replace(`INSERT INTO {t} (id) SELECT g FROM generate_series(1, 30) AS g`))
		w.exec(expand.Replace(bad.make))
		source := strings.ReplaceAll(increment, "public.items", "public."+name)
		if bad.set != "" {
			source = strings.Replace(source, "n = n + 1", "n = n + 1, "+bad.set, 1)
		}
		works = append(works, parse(t, name, source))
		w.enqueue(name, "public."+name, 10, 10)
	}
	w.exec(`UPDATE bbm.batched_background_migrations SET max_attempts = 2`)
	var reports reports
	config := w.config()
	config.Report = reports.add
	var failed *runner.MigrationsFailedError
	require.ErrorAs(t, w.runner(config, works...).Run(w.ctx), &failed)
	require.Len(t, failed.Names, len(badRows))

	for name, bad := range badRows {
		table := "public." + name
		job := func(column string) string {
			return one[string](w, `SELECT j.`+column+`::text FROM bbm.batched_background_migration_jobs AS j
				JOIN bbm.batched_background_migrations AS m ON m.id = j.batched_background_migration_id WHERE m.name = $1 AND j.status = 'failed'`, name)
		}
		assert.Equal(t, bad.class, job("exception_class"), name)
		assert.Equal(t, "2", job("attempts"), name)
		assert.Zero(t, one[int](w, `SELECT count(*) FROM `+table+` WHERE n <> (id < 15)::int AND id <= 20 OR n > 1`), "%s: all before the row, once", name)
		dbtest.CheckHistory(t, w.conn, name)
		w.exec(strings.NewReplacer("{t}", table, "{name}", name).Replace(bad.mend))
	}
	w.tellsNot("hunter2", &reports)

	for _, each := range works {
		require.NoError(t, w.control().Retry(w.ctx, each.Name, "", false))
	}
	require.NoError(t, w.runUntilIdle(works...))
	for name := range badRows {
		assert.Equal(t, "finished", w.status(name))
		assert.Zero(t, one[int](w, `SELECT count(*) FROM public.`+name+` WHERE n <> 1`), name)
		dbtest.CheckHistory(t, w.conn, name)
	}
}

// reports keeps what would be sent to Sentry.
type reports struct {
	mu   sync.Mutex
	text strings.Builder
}

func (r *reports) add(_ context.Context, err error, tags map[string]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintln(&r.text, err, tags)
}

// tellsNot proves that a text is nowhere in our tables, the status, the log and the reports.
func (w *world) tellsNot(secret string, r *reports) {
	w.t.Helper()
	for _, table := range []string{
		"batched_background_migrations", "batched_background_migration_jobs", "batched_background_migration_job_transition_logs", "batched_background_migration_transition_logs",
		"batched_background_migration_quarantined_rows",
	} {
		require.Zero(w.t, one[int](w, `SELECT count(*) FROM bbm.`+table+` AS x WHERE strpos(x::text, $1) > 0`, secret), table)
	}
	migrations, err := w.control().Status(w.ctx)
	require.NoError(w.t, err)
	status, err := json.Marshal(migrations)
	require.NoError(w.t, err)
	require.Contains(w.t, string(status), `"failure":{"code"`)
	require.NotEmpty(w.t, r.text.String())
	for where, text := range map[string]string{"status": string(status), "log": w.log.String(), "reports": r.text.String()} {
		require.NotContains(w.t, text, secret, where)
	}
}
