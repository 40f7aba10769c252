package work

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestParseRefusesToAssignACursorColumn(t *testing.T) {
	t.Parallel()
	head := "-- description: d\n-- table: public.t\n-- cursor: tenant, \"Id\"\n-- search_path: public\n" + marker + "\n"
	tests := []struct {
		name, statement, assigned string // "" where the statement is fine
	}{
		{"another column", `UPDATE public.t SET a = 1, "ID" = 2 WHERE @batch`, ""},
		{"the column", `UPDATE public.t SET tenant = 1 WHERE @batch`, "tenant"},
		{"in any case", `update PUBLIC.T as x set a = 1, TENANT = 1 where @batch(x)`, "tenant"},
		{"in quotes", `UPDATE ONLY "public"."t" * x SET "Id" = 1 WHERE @batch(x)`, `"Id"`},
		{"without a schema", `UPDATE t x SET a = f(1, 2), "Id" = 1 WHERE @batch(x)`, `"Id"`},
		{"a table called as in another schema", `UPDATE other.t SET tenant = 1 WHERE @batch`, ""},
		{"another table", `UPDATE public.t2 SET tenant = 1 FROM public.t WHERE @batch(t)`, ""},
		{"another table by an alias of that name", `UPDATE public.t2 AS t SET tenant = 1 FROM public.t AS u WHERE @batch(u)`, ""},
		{"a list", `UPDATE public.t SET (a, tenant) = (1, 2) WHERE @batch`, "tenant"},
		{"a list of others", `UPDATE public.t SET (a, b) = (tenant, 2), c = (SELECT tenant) WHERE @batch`, ""},
		{"a list after a list", `UPDATE public.t SET (a, b) = ROW (1, 2), ("Id") = ROW (3) WHERE @batch`, `"Id"`},
		{"in expressions only", `UPDATE public.t SET a = tenant, b = CASE WHEN tenant = 1 THEN "Id" ELSE 2 END WHERE @batch AND (a, tenant) = (1, 2)`, ""},
		{"after a CASE", `UPDATE public.t SET b = CASE WHEN true THEN 1 END, tenant = 2 WHERE @batch`, "tenant"},
		{"after IS DISTINCT FROM", `UPDATE public.t SET b = a IS DISTINCT FROM c, tenant = 2 WHERE @batch`, "tenant"},
		{"in the FROM clause's list", `UPDATE public.t SET b = 1 FROM x, tenant WHERE @batch(t)`, ""},
		{"in the RETURNING list", `UPDATE public.t SET b = 1 WHERE @batch RETURNING b, tenant`, ""},
		{"a field or an element", `UPDATE public.t SET b.tenant = 1, c[1] = 2, tenant.x = 3 WHERE @batch`, "tenant"},
		{"fields of others", `UPDATE public.t SET b.tenant = 1, c["Id"] = 2 WHERE @batch`, ""},
		{"inside WITH", `WITH x AS (UPDATE public.t SET tenant = 2 WHERE @batch RETURNING a) SELECT a FROM x`, "tenant"},
		{"inside WITH, then another table", `WITH x AS (UPDATE public.t SET a = 2 WHERE @batch RETURNING *) UPDATE t2 SET tenant = x.tenant FROM x`, ""},
		{"INSERT names it", `INSERT INTO public.t2 (tenant) SELECT tenant FROM public.t WHERE @batch`, ""},
		{"ON CONFLICT of the table", `INSERT INTO public.t (tenant) SELECT 1 FROM public.t WHERE @batch ON CONFLICT (tenant) DO UPDATE SET a = 1, tenant = excluded.tenant WHERE true`, "tenant"},
		{"ON CONFLICT of another table", `INSERT INTO t2 (tenant) SELECT 1 FROM public.t WHERE @batch ON CONFLICT (tenant) DO UPDATE SET tenant = excluded.tenant`, ""},
		{"MERGE into the table", `MERGE INTO public.t AS x USING s ON s.id = x.a AND @batch(x) WHEN MATCHED AND b THEN UPDATE SET a = CASE WHEN b THEN 1 END, tenant = 2 WHEN NOT MATCHED THEN INSERT (tenant) VALUES (1)`, "tenant"},
		{"MERGE, others", `MERGE INTO public.t AS x USING s ON s.id = x.a AND @batch(x) WHEN MATCHED THEN UPDATE SET a = 1 WHEN NOT MATCHED THEN INSERT (tenant, b) VALUES (1, 2)`, ""},
		{"MERGE into another table", `MERGE INTO t2 USING public.t ON @batch(t) WHEN MATCHED THEN UPDATE SET tenant = 1`, ""},
		{"FOR UPDATE", `WITH x AS (SELECT tenant FROM public.t WHERE @batch FOR NO KEY UPDATE) DELETE FROM t2 USING x WHERE true`, ""},
		{"in a comment", `UPDATE public.t SET a = 1 /* , tenant = 2 */ WHERE @batch`, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse("x", []byte(head+test.statement))
			if test.assigned == "" {
				assert.NoError(t, err)
				return
			}
			assert.EqualError(t, err, "x:6: the statement assigns "+test.assigned+", a column of its cursor, so that rows move between batches; "+
				"choose a cursor that the statement does not change")
		})
	}
}

func TestATableInAnUnknownSchemaIsNotTheWorksOwn(t *testing.T) {
	t.Parallel()
	head := "-- description: d\n-- table: public.t\n-- cursor: id\n-- search_path: app, public\n" + marker + "\n"
	_, err := Parse("x", []byte(head+"UPDATE t SET id = 1 FROM public.t AS u WHERE @batch(u)"))
	assert.NoError(t, err)
}

func TestAssignmentsAreListedByTable(t *testing.T) {
	t.Parallel()
	head := "-- description: d\n-- table: public.t\n-- cursor: id\n-- search_path: public\n-- argument: by int\n" + marker + "\n"
	for statement, want := range map[string][]Assignment{
		`UPDATE public.t AS x SET a = f(@by, 2), "B" = 1 WHERE @batch(x)`:                                                  {{[]string{"public", "t"}, []string{"a", "B"}}},
		`UPDATE T SET (a, b) = (@by, 2), c = CASE WHEN a = 1 THEN 2 END WHERE @batch`:                                      {{[]string{"t"}, []string{"a", "b", "c"}}},
		`DELETE FROM public.t WHERE @batch AND id > @by`:                                                                   nil,
		`SELECT @by FROM public.t WHERE @batch FOR NO KEY UPDATE`:                                                          nil,
		`INSERT INTO o SELECT 1, @by FROM t WHERE @batch(t) ON CONFLICT (a) DO UPDATE SET b = 2`:                           {{[]string{"o"}, []string{"b"}}},
		`INSERT INTO o SELECT 1, @by FROM t WHERE @batch(t) ON CONFLICT (a) DO NOTHING`:                                    nil,
		`WITH a AS (UPDATE o SET x = @by RETURNING 1) UPDATE t SET y = 1, y2 = 2 WHERE @batch`:                             {{[]string{"o"}, []string{"x"}}, {[]string{"t"}, []string{"y", "y2"}}},
		`MERGE INTO o USING t ON o.a = t.a AND @batch(t) WHEN MATCHED THEN UPDATE SET b = @by, c = 1`:                      {{[]string{"o"}, []string{"b", "c"}}},
		`UPDATE public.t SET arr[@by] = 1, rec.field = 2 WHERE @batch`:                                                     {{[]string{"public", "t"}, []string{"arr", "rec"}}},
		"UPDATE public.t SET a = 'set b = 1' || $$ UPDATE t SET z = 1 $$ /* SET y = 1 */ || @by WHERE @batch -- SET x = 1": {{[]string{"public", "t"}, []string{"a"}}},
	} {
		w, err := Parse("w", []byte(head+statement))
		if assert.NoError(t, err, statement) {
			assert.Equal(t, want, w.Assignments(), statement)
		}
	}
	assert.Nil(t, (&Work{Name: "go"}).Assignments())
}
