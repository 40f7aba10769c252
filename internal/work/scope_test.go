package work

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// scoped is a work on public.t whose scope stands in line 4.
func scoped(scope string) string {
	return file("UPDATE public.t AS x SET a = a + 1 WHERE @batch(x) AND x.a = 0", "-- scope: "+scope)
}

func TestAScopeIsOnePredicate(t *testing.T) {
	t.Parallel()
	for _, scope := range []string{
		"a IS NULL", `"Odd ""Name" = 'it''s; -- @batch' AND (b)`, "a[1] = 2 AND (b OR (c))", "body @> '{}' AND @ n > 1", "state = 'x'::t.state",
		"t.f(a) AND u.f(a)", "CAST(a AS t.state) = 'x' COLLATE t.c", "(x).y = 1", "body LIKE '50%'", "$$)$$ = a",
	} {
		assert.Equal(t, scope, parsed(t, scoped(scope)).Scope)
	}
	for scope, want := range map[string]string{
		"WHERE a IS NULL":    "the scope begins with WHERE; leave that word out",
		"a = 1;":             "the scope holds a semicolon; it is one predicate, so join two by AND",
		"a = 1; b = 2":       "the scope holds a semicolon",
		"a = 1 -- for now":   `the scope holds a comment; put it below "-- +bbm Work"`,
		"a /* b */ = 1":      "the scope holds a comment",
		"@batch":             "the scope holds @batch, but an index has no parameters; write a constant, or leave it to the statement",
		"a = @domain":        "the scope holds @domain, but",
		"a = $1":             "the scope holds $1, but",
		"a = 1) OR (true":    "the scope has a ) that closes nothing; balance its parentheses",
		"(a = 1":             "the scope lacks a ) at its end; balance its parentheses",
		"a[1 = 1":            "the scope lacks a ] at its end",
		"(a[1) = 2]":         "the scope has a ) that closes nothing",
		"a = 'x":             "scope a = 'x: this string never ends",
		"t.a IS NULL":        "the scope writes t.a; name columns without the table, as in a",
		`public."t"."A" = 1`: `the scope writes "t"."A"; name columns without the table, as in "A"`,
		"b = 1 AND T.a = 1":  "the scope writes T.a;",
		"u.a IS NULL":        "the scope writes u.a;",
		"a = 1 /* open":      "this comment never ends",
		"E'\\' OR true) --":  "this string never ends",
	} {
		_, err := Parse("x", []byte(scoped(scope)))
		if assert.Error(t, err, scope) {
			assert.Contains(t, err.Error(), "x:4: ", scope)
			assert.Contains(t, err.Error(), want, scope)
		}
	}
	_, err := Parse("x", []byte(file("UPDATE public.t SET a = 1 WHERE @batch", "-- scope:")))
	assert.EqualError(t, err, `x:4: header "scope" is empty; write -- scope: email_lower IS NULL`)
}

func TestAGoWorksScopeIsReadAsAFilesIs(t *testing.T) {
	t.Parallel()
	w := goWork()
	w.Scope = "email_lower IS NULL"
	_, err := NewRegistry(w)
	require.NoError(t, err)
	assert.NotEqual(t, goWork().Checksum(), w.Checksum())
	for scope, want := range map[string]string{
		"a) OR (b":      `work "anonymise", written in Go: the scope has a ) that closes nothing`,
		" ":             "the scope is empty; write a predicate, or leave it out for all rows",
		"users.a":       "the scope writes users.a",
		"a\n-- b\nOR c": "the scope holds a comment",
	} {
		w.Scope = scope
		_, err := NewRegistry(w)
		assert.ErrorContains(t, err, want)
	}
}

func TestTheChecksumCoversTheScopesTokens(t *testing.T) {
	t.Parallel()
	sum := func(scope string) string { return parsed(t, scoped(scope)).Checksum() }
	assert.Equal(t, sum("a IS NULL"), sum("a   IS\tNULL  "))
	assert.NotEqual(t, sum("a IS NULL"), sum("a IS NOT NULL"))
	assert.NotEqual(t, sum("a = 'x y'"), sum("a = 'x  y'"))
	// Pinned in the databases of those who used the work before there were scopes.
	assert.Equal(t, "25baafe83ce5453f", parsed(t, usersEmailLower).Checksum())
}

func TestTheScopeIsInTheWalkAndNotInTheStatement(t *testing.T) {
	t.Parallel()
	s := NewStatements(parsed(t, scoped("a = 0 OR b LIKE '50%'")), Target{Schema: "public", Table: "t", Columns: []Column{{"id", "bigint"}}})
	assert.Contains(t, s.LastKey(), `FROM "public"."t" AS u WHERE (a = 0 OR b LIKE '50%') ORDER BY`)
	sql, _ := s.Boundary(Range{Key{"1"}, Key{"2"}}, 5, 5)
	const walked = `WHERE ("u"."id" > $1::text::bigint AND "u"."id" <= $2::text::bigint) AND (a = 0 OR b LIKE '50%')`
	assert.Equal(t, 2, strings.Count(sql, walked), sql)
	sql, _, err := s.Work(Range{Key{"1"}, Key{"2"}}, nil)
	require.NoError(t, err)
	assert.NotContains(t, sql, "50%")
}
