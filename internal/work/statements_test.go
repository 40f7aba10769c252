package work

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// users is the target of usersEmailLower.
var users = Target{Schema: "public", Table: "users", Columns: []Column{{"id", "bigint"}}}

func TestTheWorkStatementStatesItsRangeAndItsArguments(t *testing.T) {
	t.Parallel()
	s := NewStatements(parsed(t, usersEmailLower), users)
	domain := "example.com"

	sql, values, err := s.Work(Range{Key{"5"}, Key{"9"}}, Arguments{"domain": &domain})
	require.NoError(t, err)
	assert.Equal(t, `UPDATE public.users AS u
   SET email_lower = lower(u.email)
 WHERE ("u"."id" > $1::text::bigint AND "u"."id" <= $2::text::bigint)
   AND u.email_lower IS NULL
   AND u.email LIKE '%@' || ($3::text::text)`, sql)
	assert.Equal(t, []any{"5", "9", "example.com"}, values)

	sql, values, err = s.Work(Range{nil, Key{"9"}}, Arguments{"domain": nil})
	require.NoError(t, err)
	assert.Contains(t, sql, `WHERE ("u"."id" <= $1::text::bigint)`)
	assert.Contains(t, sql, `'%@' || ($2::text::text)`)
	assert.Equal(t, []any{"9", nil}, values)
}

func TestTheRangePredicateSharesLeadingValues(t *testing.T) {
	t.Parallel()
	w := parsed(t, strings.Replace(file(`DELETE FROM public.t WHERE @batch("T""x")`), "cursor: id", "cursor: a, b, c", 1))
	s := NewStatements(w, Target{Schema: "public", Table: "t", Columns: []Column{{"a", "integer"}, {"B b", "text"}, {"c", "uuid"}}})
	tests := []struct {
		name         string
		after, until Key
		want         string
		values       []any
	}{
		{"the first range", nil, Key{"1", "x", "u"},
			`("T""x"."a", "T""x"."B b", "T""x"."c") <= ($1::text::integer, $2::text::text, $3::text::uuid) AND "T""x"."a" <= $1::text::integer`,
			[]any{"1", "x", "u"}},
		{"no shared value", Key{"0", "x", "t"}, Key{"1", "x", "u"},
			`("T""x"."a", "T""x"."B b", "T""x"."c") > ($1::text::integer, $2::text::text, $3::text::uuid)` +
				` AND ("T""x"."a", "T""x"."B b", "T""x"."c") <= ($4::text::integer, $5::text::text, $6::text::uuid)` +
				` AND "T""x"."a" >= $1::text::integer AND "T""x"."a" <= $4::text::integer`,
			[]any{"0", "x", "t", "1", "x", "u"}},
		{"one shared value", Key{"1", "w", "u"}, Key{"1", "x", "u"},
			`"T""x"."a" = $1::text::integer AND ("T""x"."B b", "T""x"."c") > ($2::text::text, $3::text::uuid)` +
				` AND ("T""x"."B b", "T""x"."c") <= ($4::text::text, $5::text::uuid)` +
				` AND "T""x"."B b" >= $2::text::text AND "T""x"."B b" <= $4::text::text`,
			[]any{"1", "w", "u", "x", "u"}},
		{"two shared values", Key{"1", "x", "t"}, Key{"1", "x", "u"},
			`"T""x"."a" = $1::text::integer AND "T""x"."B b" = $2::text::text AND "T""x"."c" > $3::text::uuid AND "T""x"."c" <= $4::text::uuid`,
			[]any{"1", "x", "t", "u"}},
		{"an empty range", Key{"1", "x", "u"}, Key{"1", "x", "u"},
			`"T""x"."a" = $1::text::integer AND "T""x"."B b" = $2::text::text AND "T""x"."c" > $3::text::uuid AND "T""x"."c" <= $4::text::uuid`,
			[]any{"1", "x", "u", "u"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			sql, values, err := s.Work(Range{test.after, test.until}, nil)
			require.NoError(t, err)
			assert.Equal(t, "DELETE FROM public.t WHERE ("+test.want+")", sql)
			assert.Equal(t, test.values, values)
			_, bounds := s.Boundary(Range{test.after, test.until}, 7, 70)
			assert.Equal(t, append(test.values, int64(7), int64(70)), bounds)
		})
	}
}

func TestTheStatementsOfASingleRowAreAboutItsKeyAlone(t *testing.T) {
	t.Parallel()
	w := parsed(t, strings.Replace(file(`DELETE FROM public.t AS t WHERE @batch(t)`), "cursor: id", "cursor: a, b", 1))
	s := NewStatements(w, Target{Schema: "public", Table: "t", Columns: []Column{{"a", "integer"}, {"b", "text"}}}).SingleRow()
	for _, after := range []Key{nil, {"1", "w"}, {"0", "z"}} {
		r := Range{after, Key{"1", "x"}}
		sql, values, err := s.Work(r, nil)
		require.NoError(t, err)
		assert.Equal(t, `DELETE FROM public.t AS t WHERE ("t"."a" = $1::text::integer AND "t"."b" = $2::text::text)`, sql)
		assert.Equal(t, []any{"1", "x"}, values)
		boundary, values := s.Boundary(r, 7, 70)
		assert.Contains(t, boundary, `"u"."a" = $1::text::integer AND "u"."b" = $2::text::text`)
		assert.NotContains(t, boundary, "<=", "no bounds")
		assert.Equal(t, []any{"1", "x", int64(7), int64(70)}, values)
	}
}

func TestAnUnqualifiedBatchNamesBareColumns(t *testing.T) {
	t.Parallel()
	s := NewStatements(parsed(t, file("DELETE FROM public.t WHERE @batch;")), users)
	sql, _, err := s.Work(Range{Key{"1"}, Key{"2"}}, nil)
	require.NoError(t, err)
	assert.Equal(t, `DELETE FROM public.t WHERE ("id" > $1::text::bigint AND "id" <= $2::text::bigint)`, sql)
}

func TestAnArgumentUsedTwiceIsOneParameter(t *testing.T) {
	t.Parallel()
	w := parsed(t, file("UPDATE public.t SET a = @b, b = @a, c = @b WHERE @batch (t)", "-- argument: a int[]", "-- argument: b text"))
	a, b := "{1}", "x"
	sql, values, err := NewStatements(w, users).Work(Range{Key{"1"}, Key{"2"}}, Arguments{"a": &a, "b": &b})
	require.NoError(t, err)
	assert.Contains(t, sql, `SET a = ($3::text::text), b = ($4::text::int[]), c = ($3::text::text) WHERE ("t"."id"`)
	assert.Equal(t, []any{"1", "2", "x", "{1}"}, values)
}

func TestKeysThatDoNotFitTheCursorAreRefused(t *testing.T) {
	t.Parallel()
	s := NewStatements(parsed(t, file("DELETE FROM public.t WHERE @batch")), users)
	for _, r := range []Range{{Key{"1", "2"}, Key{"2"}}, {nil, nil}, {Key{"1"}, nil}, {Key{}, Key{"2"}}, {Key{"1", "2"}, Key{"1", "3"}}} {
		_, _, err := s.Work(r, nil)
		assert.ErrorContains(t, err, "do not fit its cursor of 1 columns")
		_, values := s.Boundary(r, 1, 1)
		assert.Empty(t, values)
	}
}

func TestAMissingArgumentAndAGoWorkHaveNoStatement(t *testing.T) {
	t.Parallel()
	_, _, err := NewStatements(parsed(t, usersEmailLower), users).Work(Range{nil, Key{"1"}}, nil)
	assert.EqualError(t, err, `work "x": argument "domain" is missing`)
	_, _, err = NewStatements(goWork(), users).Work(Range{nil, Key{"1"}}, nil)
	assert.EqualError(t, err, `work "anonymise" is written in Go: it has no statement`)
}

func TestArgumentCheckCastsWhatIsGiven(t *testing.T) {
	t.Parallel()
	w := parsed(t, file("UPDATE public.t SET a = @b, b = @a WHERE @batch", "-- argument: a int[]", "-- argument: b text"))
	s := NewStatements(w, users)
	a := "{1}"
	sql, values := s.ArgumentCheck(Arguments{"b": nil, "a": &a, "c": &a})
	assert.Equal(t, "SELECT $1::text::int[], $2::text::text", sql)
	assert.Equal(t, []any{"{1}", nil}, values)
	sql, _ = s.ArgumentCheck(nil)
	assert.Empty(t, sql)
}

func TestAGoWorksStatementIsReadAsAFilesIs(t *testing.T) {
	t.Parallel()
	w := goWork()
	w.Arguments = []Argument{{"a", "int"}, {"b", "int"}}
	s := NewStatements(w, users)
	two := "2"
	b := s.Batch("m", Range{Key{"1"}, Key{"5"}}, Arguments{"a": &two, "b": nil}, 1)

	for range 2 * maxTemplates {
		sql, values, err := s.expandFor(b, "UPDATE public.users AS x SET n = n + @a WHERE @batch(x)")
		require.NoError(t, err)
		assert.Equal(t, `UPDATE public.users AS x SET n = n + ($3::text::int) WHERE ("x"."id" > $1::text::bigint AND "x"."id" <= $2::text::bigint)`, sql)
		assert.Equal(t, []any{"1", "5", "2"}, values)
		_, _, err = s.expandFor(b, "DELETE FROM public.users WHERE @batch AND n > "+strings.Repeat("1", 1+len(s.cache.templates)))
		require.NoError(t, err)
		assert.LessOrEqual(t, len(s.cache.templates), maxTemplates)
	}

	for sql, want := range map[string]string{
		"UPDATE t SET n = 1":                            "anonymise:1: @batch is missing",
		"UPDATE t SET n = 1\nWHERE @batch AND @batch":   "anonymise:2: a second @batch",
		"UPDATE t SET n = 1\nWHERE @batch AND n = @c_d": "anonymise:2: @c_d is not declared",
		"COMMIT": "anonymise:1: COMMIT is no statement for a work",
		"UPDATE public.users SET id = 1 WHERE @batch": "anonymise:1: the statement assigns id",
	} {
		_, _, err := s.expandFor(b, sql)
		assert.ErrorContains(t, err, want)
	}
	_, err := Batch{}.Exec(t.Context(), nil, "")
	assert.ErrorContains(t, err, "was not made by a runner")
}
