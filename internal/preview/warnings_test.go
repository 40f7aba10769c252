package preview_test

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/preview"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

func TestTriggersThatFireAreListed(t *testing.T) {
	w := setup(t, items, `
		CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
		CREATE FUNCTION public.definer() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN new; END';
		CREATE TRIGGER a_row BEFORE UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.f();
		CREATE TRIGGER b_of_n AFTER UPDATE OF n ON public.items FOR EACH ROW EXECUTE FUNCTION public.definer();
		CREATE TRIGGER c_of_m AFTER UPDATE OF m ON public.items FOR EACH ROW EXECUTE FUNCTION public.f();
		CREATE TRIGGER d_insert AFTER INSERT ON public.items FOR EACH ROW EXECUTE FUNCTION public.f();
		CREATE TRIGGER e_disabled AFTER UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.f();
		CREATE TRIGGER f_statement AFTER UPDATE OR DELETE ON public.items FOR EACH STATEMENT EXECUTE FUNCTION public.f();
		CREATE TRIGGER g_replica AFTER UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.f();
		ALTER TABLE public.items DISABLE TRIGGER e_disabled;
		ALTER TABLE public.items ENABLE REPLICA TRIGGER g_replica`)
	e := w.explain(onItems(t, incrementAll))
	var found []string
	for _, trigger := range e.Writes[0].Triggers {
		found = append(found, trigger.Name+" "+trigger.Timing)
	}
	assert.Equal(t, []string{"a_row before row", "b_of_n after row", "e_disabled after row", "f_statement after statement", "g_replica after row"}, found)
	assert.True(t, e.Writes[0].Triggers[1].IsDefiner)
	assert.Equal(t, []string{"trigger_per_row", "trigger_per_row", "disabled_trigger", "disabled_trigger", "no_room"}, codes(e.Warnings))
	assert.Contains(t, message(t, e.Warnings, "trigger_per_row"), "the trigger a_row of public.items calls public.f for each row: about 1000 times for each sub-batch of 1000 rows")

	e = w.explain(onItems(t, "DELETE FROM public.items AS i WHERE @batch(i)"))
	require.Len(t, e.Writes[0].Triggers, 1)
	assert.Equal(t, "f_statement", e.Writes[0].Triggers[0].Name)
}

func TestATriggerIsSaidToBeCalledAsOftenAsThePlanExpects(t *testing.T) {
	w := setup(t, items, `
		UPDATE public.items SET m = 1 WHERE id % 10 = 0;
		ANALYZE public.items;
		CREATE TABLE public.archive (LIKE public.items);
		CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
		CREATE TRIGGER here AFTER DELETE OR UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.f();
		CREATE TRIGGER there AFTER INSERT ON public.archive FOR EACH ROW EXECUTE FUNCTION public.f()`)
	times := regexp.MustCompile(`about (\d+) times for each sub-batch of 1000 rows`)
	calls := func(statement string) (found []float64) {
		for _, each := range w.explain(onItems(t, statement)).Warnings {
			if each.Code == "trigger_per_row" {
				require.Regexp(t, times, each.Message)
				number, err := strconv.ParseFloat(times.FindStringSubmatch(each.Message)[1], 64)
				require.NoError(t, err)
				found = append(found, number)
			}
		}
		return found
	}
	updated := calls("UPDATE public.items AS i SET n = 1 WHERE @batch(i) AND i.m = 1")
	require.Len(t, updated, 1)
	assert.InDelta(t, 100, updated[0], 30)
	moved := calls("WITH moved AS (DELETE FROM public.items AS i WHERE @batch(i) AND i.m = 1 RETURNING *) INSERT INTO public.archive SELECT * FROM moved")
	require.Len(t, moved, 2, "where rows go, and where they come to be")
	assert.InDelta(t, 100, moved[0], 30)
	assert.InDelta(t, 100, moved[1], 30)
}

func TestTriggersOfPartitionsAreListedOnce(t *testing.T) {
	w := setup(t, `
		CREATE TABLE public.items (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0) PARTITION BY RANGE (id);
		CREATE TABLE public.items_1 PARTITION OF public.items FOR VALUES FROM (0) TO (500);
		CREATE TABLE public.items_2 PARTITION OF public.items FOR VALUES FROM (500) TO (10000);
		INSERT INTO public.items SELECT generate_series(1, 1000);
		CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
		CREATE TRIGGER everywhere BEFORE UPDATE ON public.items FOR EACH ROW EXECUTE FUNCTION public.f();
		CREATE TRIGGER here BEFORE UPDATE ON public.items_2 FOR EACH ROW EXECUTE FUNCTION public.f();
		CREATE TRIGGER never AFTER UPDATE ON public.items_2 FOR EACH STATEMENT EXECUTE FUNCTION public.f()`)
	var found []string
	for _, trigger := range w.explain(onItems(t, incrementAll)).Writes[0].Triggers {
		found = append(found, trigger.Table+" "+trigger.Name)
	}
	assert.Equal(t, []string{"public.items everywhere", "public.items_2 here"}, found)
}

func TestForeignKeysThatAreCheckedAreListed(t *testing.T) {
	w := setup(t, items, `
		CREATE TABLE public.kinds (id int PRIMARY KEY);
		INSERT INTO public.kinds VALUES (0);
		CREATE TABLE public.lines (id bigint PRIMARY KEY, item bigint REFERENCES public.items ON DELETE CASCADE, seen bigint);
		CREATE INDEX ON public.lines (seen);
		ALTER TABLE public.lines ADD CONSTRAINT seen FOREIGN KEY (seen) REFERENCES public.items;
		ALTER TABLE public.items ADD CONSTRAINT kind FOREIGN KEY (n) REFERENCES public.kinds DEFERRABLE INITIALLY DEFERRED NOT VALID;
		ALTER TABLE public.items ADD CONSTRAINT other FOREIGN KEY (m) REFERENCES public.kinds`)
	list := func(e *preview.Explanation) (found []string) {
		for _, k := range e.Writes[0].ForeignKeys {
			found = append(found, strings.TrimSpace(k.Name+" "+k.Direction+" "+k.Action))
		}
		return found
	}
	e := w.explain(onItems(t, incrementAll))
	assert.Equal(t, []string{"kind outgoing"}, list(e))
	assert.True(t, e.Writes[0].ForeignKeys[0].IsDeferred)
	assert.Equal(t, []string{"no_room", "foreign_key_per_row", "not_valid_foreign_key"}, codes(e.Warnings))

	e = w.explain(onItems(t, "DELETE FROM public.items AS i WHERE @batch(i)"))
	assert.Equal(t, []string{"lines_item_fkey incoming cascade", "seen incoming no action"}, list(e))
	assert.Equal(t, []string{"no_index", "cascade"}, codes(e.Warnings))
	assert.Contains(t, message(t, e.Warnings, "no_index"), "no index on (item) serves that: it reads all of public.lines each time")

	e = w.explain(onItems(t, "INSERT INTO public.items (id) SELECT i.id + 10000 FROM public.items AS i WHERE @batch(i)"))
	assert.Equal(t, []string{"kind outgoing", "other outgoing"}, list(e))
}

func TestPlansAreJudged(t *testing.T) {
	w := setup(t, items, `
		CREATE TABLE public.big (id bigint PRIMARY KEY, item bigint, word text);
		INSERT INTO public.big SELECT i, i % 5000, 'w' || i FROM generate_series(1, 20000) AS i;
		ANALYZE public.big`)
	for statement, want := range map[string][]string{
		incrementAll: {"no_room"},
		"UPDATE public.items AS i SET n = 1 FROM public.big AS b WHERE @batch(i) AND b.item = i.id":                                    {"full_scan", "no_room"},
		"UPDATE public.items AS i SET n = (SELECT count(*) FROM public.big AS b WHERE b.item = i.id) WHERE @batch(i)":                  {"no_index", "no_room"},
		"UPDATE public.items AS i SET n = 1 WHERE @batch(i) AND i.id IN (SELECT b.id FROM public.big AS b ORDER BY b.word LIMIT 5000)": {"full_scan", "sort", "no_room"},
		"UPDATE public.items AS i SET note = (SELECT b.word FROM public.big AS b WHERE b.id = i.id) WHERE @batch(i)":                   {"no_room"},
		"SELECT pg_catalog.length(i.note) FROM public.items AS i WHERE @batch(i)":                                                      {"no_write"},
		"UPDATE public.items AS i SET n = 1 WHERE @batch(i) AND i.note <> ALL (SELECT b.word FROM public.big AS b WHERE b.id < 50)":    {"no_room"},
	} {
		assert.Equal(t, want, codes(w.explain(onItems(t, statement)).Warnings), statement)
	}
}

func TestWhatIsSpecialAboutATableIsTold(t *testing.T) {
	w := setup(t, items, `
		ALTER TABLE public.items ADD CONSTRAINT positive CHECK (n >= 0) NOT VALID;
		ALTER TABLE public.items SET UNLOGGED;
		ALTER TABLE public.items SET (fillfactor = 50);
		ALTER TABLE public.items ENABLE ROW LEVEL SECURITY`)
	e := w.explain(onItems(t, incrementAll))
	assert.Equal(t, []string{"row_level_security", "unlogged", "not_valid_check"}, codes(e.Warnings))
}

// as makes the session that of a role with these rights alone.
func (w *world) as(grants string) {
	w.t.Helper()
	role := "preview_" + one[string](w, "SELECT current_database()")
	name := pgx.Identifier{role}.Sanitize()
	w.exec("CREATE ROLE " + name)
	w.t.Cleanup(func() {
		_, err := w.conn.Exec(context.WithoutCancel(w.t.Context()), "RESET ROLE; DROP OWNED BY "+name+"; DROP ROLE "+name)
		assert.NoError(w.t, err)
	})
	w.exec(strings.ReplaceAll(grants, "ROLE", name))
	w.exec("SET ROLE " + name)
}

func TestASuperuserIsWarnedAndAnOrdinaryRoleIsNot(t *testing.T) {
	w := setup(t, items, `
		CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
		CREATE TRIGGER t AFTER UPDATE ON public.items FOR EACH STATEMENT EXECUTE FUNCTION public.f()`)
	if !one[bool](w, "SELECT current_setting('is_superuser') = 'on'") {
		t.Skip("the tests' role is no superuser")
	}
	assert.Contains(t, message(t, w.explain(onItems(t, incrementAll)).Warnings, "superuser"), "the trigger t")
	w.as("GRANT USAGE ON SCHEMA public TO ROLE; GRANT SELECT, UPDATE ON public.items TO ROLE")
	for _, each := range w.explain(onItems(t, incrementAll)).Warnings {
		assert.NotEqual(t, "superuser", each.Code)
	}
}

func TestWhatIsNotPermittedIsRefusedWithTheServersMessage(t *testing.T) {
	w := setup(t, items)
	w.as("GRANT USAGE ON SCHEMA public TO ROLE; GRANT SELECT ON public.items TO ROLE")
	for _, try := range []func() error{
		func() error {
			_, err := preview.Explain(t.Context(), w.conn, preview.Subject{Work: onItems(t, incrementAll)})
			return err
		},
		func() error {
			_, err := preview.Sample(t.Context(), w.conn, preview.Subject{Work: onItems(t, incrementAll)}, preview.SampleOptions{Shares: []float64{0}, Batches: 1})
			return err
		},
	} {
		var definition *work.DefinitionError
		require.ErrorAs(t, try(), &definition)
		assert.Contains(t, definition.Message, "permission denied for table items")
	}
}

func TestRowsThatAPolicyHidesMakeAWorkRefused(t *testing.T) {
	w := setup(t, items, "ALTER TABLE public.items ENABLE ROW LEVEL SECURITY")
	w.as("GRANT USAGE ON SCHEMA public TO ROLE; GRANT SELECT, UPDATE ON public.items TO ROLE")
	_, err := preview.Explain(t.Context(), w.conn, preview.Subject{Work: onItems(t, incrementAll)})
	require.ErrorContains(t, err, "row-level security policy")
}
