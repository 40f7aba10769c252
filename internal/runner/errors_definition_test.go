package runner_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

// surprises are changes of the target in mid-run after which the work does not fit it any more, and what ends them.
var surprises = map[string]struct{ change, mend, reason string }{
	"a column that the work sets is dropped": {`ALTER TABLE public.items DROP COLUMN extra`, `ALTER TABLE public.items ADD COLUMN extra int`, `"extra"`},
	"the cursor's column is renamed":         {`ALTER TABLE public.items RENAME id TO key`, `ALTER TABLE public.items RENAME key TO id`, `id`},
	"the table is renamed":                   {`ALTER TABLE public.items RENAME TO things`, `ALTER TABLE public.things RENAME TO items`, `public.items`},
	"the table is dropped":                   {`DROP TABLE public.items`, ``, `public.items`},
	"the table is made again": {
		`CREATE TABLE public.copy (LIKE public.items INCLUDING ALL); INSERT INTO public.copy SELECT * FROM public.items;
			DROP TABLE public.items; ALTER TABLE public.copy RENAME TO items; GRANT SELECT, UPDATE ON public.items TO {role}`,
		``, `not the table that the migration was enqueued for`,
	},
	"the right to change it is revoked": {`REVOKE UPDATE ON public.items FROM {role}`, `GRANT UPDATE ON public.items TO {role}`, `permission denied for table items`},
	"every right on it is revoked":      {`REVOKE ALL ON public.items FROM {role}`, `GRANT SELECT, UPDATE ON public.items TO {role}`, `permission denied for table items`},
	"a policy hides rows": {
		`ALTER TABLE public.items ENABLE ROW LEVEL SECURITY`, `ALTER TABLE public.items DISABLE ROW LEVEL SECURITY`, `row-level security policy for table "items"`,
	},
}

// foundByTheClaim are those that the search for the end of the next job meets, each in another way.
var foundByTheClaim = map[string]bool{
	"the cursor's column is renamed": true, "the table is dropped": true, "the table is made again": true, "every right on it is revoked": true, "a policy hides rows": true,
}

func TestAChangeOfTheTableInMidRunFailsTheMigrationAtOnceAndARetryGoesOn(t *testing.T) {
	for name, surprise := range surprises {
		for _, where := range []string{"in a job", "between two jobs"} {
			if where == "between two jobs" && !foundByTheClaim[name] {
				continue
			}
			t.Run(name+" "+where, func(t *testing.T) {
				w, role := setupRole(t)
				byRole := strings.NewReplacer("{role}", role)
				w.exec(`ALTER TABLE public.items ADD COLUMN extra int; INSERT INTO public.items (id) SELECT g FROM generate_series(1, 40) AS g`)
				w.exec(`GRANT SELECT, UPDATE ON public.items TO ` + role)
				count := parse(t, "count", strings.Replace(increment, "n = n + 1", "n = n + 1, extra = 1", 1))
				var goOn func()
				var stop func() error
				if where == "in a job" {
					w.enqueue("count", "public.items", 40, 10)
					goOn, stop = w.startMidway(20, w.daemon(), count)
				} else {
					w.enqueue("count", "public.items", 10, 10)
					goOn, stop = w.startBetween(w.daemon(), count)
				}
				done := one[int](w, `SELECT sum(n)::int FROM public.items`)
				w.exec(byRole.Replace(surprise.change))
				goOn()
				w.eventually(`SELECT status = 'failed' FROM bbm.batched_background_migrations`)
				require.NoError(t, stop())
				require.Contains(t, one[string](w, `SELECT failure_message FROM bbm.batched_background_migrations`), surprise.reason)
				require.LessOrEqual(t, one[int](w, `SELECT max(attempts) FROM bbm.batched_background_migration_jobs`), 1, "no second attempt")
				require.False(t, w.logged("held"), "at once")
				dbtest.CheckHistory(t, w.conn, "count")
				w.exec(byRole.Replace(surprise.mend))
				if one[bool](w, `SELECT to_regclass('public.items') IS NOT NULL`) {
					require.Equal(t, done, one[int](w, `SELECT sum(n)::int FROM public.items`), "nothing was changed in between")
				}
				if surprise.mend == "" {
					return
				}
				w.retry("count", count)
				w.eachOnce("count")
			})
		}
	}
}

func TestATableThatIsTruncatedInMidRunIsFinished(t *testing.T) {
	for name, refill := range map[string]string{"and stays empty": ``, "and is filled again": `INSERT INTO public.items (id) SELECT g FROM generate_series(5, 60) AS g`} {
		t.Run(name, func(t *testing.T) {
			w := setup(t, 40)
			w.enqueue("count", "public.items", 20, 5)
			goOn, stop := w.startMidway(10, w.daemon(), parse(t, "count", increment))
			w.exec(`TRUNCATE public.items; ` + refill)
			goOn()
			w.eventually(`SELECT status = 'finished' FROM bbm.batched_background_migrations`)
			require.NoError(t, stop())
			require.Zero(t, one[int](w, `SELECT count(*) FROM public.items WHERE n <> CASE WHEN id BETWEEN 11 AND 40 THEN 1 ELSE 0 END`),
				"the rows of the range that was not done yet, once")
			dbtest.CheckHistory(t, w.conn, "count")
		})
	}
}
