package work

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestChecksumCoversWhatAWorkDoesAndNothingElse(t *testing.T) {
	t.Parallel()
	sum := func(replacements ...string) string {
		return parsed(t, strings.NewReplacer(replacements...).Replace(usersEmailLower)).Checksum()
	}
	original := sum()
	assert.Len(t, original, 16)

	same := map[string][]string{
		"description":      {"rows written", "lines written"},
		"sizes":            {"50000", "40000", "1000", "999"},
		"no sizes":         {"-- batch_size: 50000\n", "", "-- sub_batch_size: 1000\n", ""},
		"comments":         {"WHERE @batch(u)", "/* x */ WHERE -- y\n @batch(u)"},
		"layout":           {"\n   SET ", " SET\t"},
		"table, otherwise": {"table: public.users", `table: "public" . USERS`},
		"cursor's case":    {"cursor: id", `cursor: "id"`},
		"more semicolons":  {"@domain;", "@domain ;\n;"},
	}
	for name, replacements := range same {
		assert.Equal(t, original, sum(replacements...), name)
	}
	different := map[string][]string{
		"statement":     {"IS NULL", "IS NOT NULL"},
		"a string":      {"'%@'", "'%@ '"},
		"a string's --": {"'%@'", "'%@ -- x'"},
		"table":         {"table: public.users", "table: app.users"},
		"cursor":        {"cursor: id", "cursor: id, b"},
		"search path":   {"search_path: public", "search_path: app"},
		"argument type": {"domain text", "domain varchar"},
		"argument name": {"domain", "site"},
		"a scope":       {"-- batch_size: 50000", "-- scope: email_lower IS NULL"},
		"time zone":     {"-- batch_size: 50000", "-- timezone: UTC"},
		"repeated keys": {"-- batch_size: 50000", "-- repeated_keys: yes"},
	}
	for name, replacements := range different {
		assert.NotEqual(t, original, sum(replacements...), name)
	}
}

func goWork() *Work {
	return &Work{
		Name: "anonymise", Version: "1", Table: "public.users", Cursor: []string{"id"},
		Do: func(context.Context, pgx.Tx, Batch) (int64, error) { return 0, nil },
	}
}

func TestAGoWorksChecksumFollowsItsVersion(t *testing.T) {
	t.Parallel()
	again, next := goWork(), goWork()
	again.Description, again.BatchSize, next.Version = "other", 3, "2"
	assert.Equal(t, goWork().Checksum(), again.Checksum())
	assert.NotEqual(t, goWork().Checksum(), next.Checksum())
}

func TestRegistryFindsWorksByName(t *testing.T) {
	t.Parallel()
	file := parsed(t, usersEmailLower)
	r, err := NewRegistry(file, goWork())
	require.NoError(t, err)
	assert.Equal(t, "anonymise", r.All()[0].Name)
	assert.Equal(t, "x", r.All()[1].Name)
	w, ok := r.Get("x")
	assert.True(t, ok)
	assert.Same(t, file, w)
	_, ok = r.Get("y")
	assert.False(t, ok)
}

func TestRegistryRefusesWhatIsIncomplete(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, want string
		change     func(w *Work)
	}{
		{"a name", `"" is no name for a work`, func(w *Work) { w.Name = "" }},
		{"a function", `work "anonymise", written in Go: it has no function; set Do`, func(w *Work) { w.Do = nil }},
		{"a version", `it has no version; set Version, and change it whenever Do does something else`, func(w *Work) { w.Version = "" }},
		{"a table", `it has no table; set Table, as in "public.users"`, func(w *Work) { w.Table = "" }},
		{"a schema", `table users has no schema; write schema.users`, func(w *Work) { w.Table = "users" }},
		{"a table's name", `table public.my-users: found - after my`, func(w *Work) { w.Table = "public.my-users" }},
		{"a cursor", `the cursor has 0 columns`, func(w *Work) { w.Cursor = nil }},
		{"sizes", `its batch sizes are -1 and 0; give 1 to 2147483647, or 0 for the default`, func(w *Work) { w.BatchSize = -1 }},
		{"a smaller sub-batch", `sub_batch_size 3 is above the batch size of 2`, func(w *Work) { w.BatchSize, w.SubBatchSize = 2, 3 }},
		{"an argument's type", `argument "a": "" is no type`, func(w *Work) { w.Arguments = []Argument{{"a", ""}} }},
		{"arguments once", `argument "a" is declared twice`, func(w *Work) { w.Arguments = []Argument{{"a", "text"}, {"a", "int"}} }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := goWork()
			test.change(w)
			_, err := NewRegistry(w)
			assert.ErrorContains(t, err, test.want)
		})
	}
}

func TestABrokenWorkIsLeftOutOfTheRegistryAlone(t *testing.T) {
	t.Parallel()
	incomplete := goWork()
	incomplete.Name, incomplete.Do = "incomplete", nil
	whole := goWork()
	whole.Name = "whole"

	r, err := NewRegistry(goWork(), incomplete, whole, goWork())

	var broken *DirError
	require.ErrorAs(t, err, &broken)
	require.Len(t, broken.Works, 2)
	assert.Equal(t, "incomplete", broken.Works[0].Name)
	assert.EqualError(t, broken.Works[1], `two works are called "anonymise": a Go work and a Go work; rename one`)
	assert.Equal(t, []*Work{whole}, r.All(), "of two that share a name none is taken")
	_, found := r.Get("anonymise")
	assert.False(t, found)
}

func TestArgumentsComeFromJSONInTheirTextForm(t *testing.T) {
	t.Parallel()
	arguments, err := ReadArguments([]byte(`{"s": "a\"é", "n": 1.50, "b": true, "z": null, "j": {"a": [1, 2]}}`))
	require.NoError(t, err)
	texts := map[string]string{}
	for name := range arguments {
		if text, ok := arguments.Get(name); ok {
			texts[name] = text
		}
	}
	assert.Equal(t, map[string]string{"s": `a"é`, "n": "1.50", "b": "true", "j": `{"a": [1, 2]}`}, texts)
	assert.Contains(t, arguments, "z")

	_, err = ReadArguments([]byte(`[1]`))
	assert.ErrorContains(t, err, "read arguments")
}

func TestCheckArgumentsNamesWhatIsMissingAndWhatIsUnknown(t *testing.T) {
	t.Parallel()
	w := parsed(t, usersEmailLower)
	text := "x"
	assert.NoError(t, w.CheckArguments(Arguments{"domain": nil}))
	assert.EqualError(t, w.CheckArguments(nil), `argument "domain" (text) is missing: give --arg domain=VALUE, or in SQL arguments => '{"domain": "VALUE"}'`)
	assert.EqualError(t, w.CheckArguments(Arguments{"domian": &text, "unheard": nil}),
		`argument "domain" (text) is missing: give --arg domain=VALUE, or in SQL arguments => '{"domain": "VALUE"}'; unknown argument "domian"; did you mean "domain"?; unknown argument "unheard"; work x takes domain`)
	assert.EqualError(t, goWork().CheckArguments(Arguments{"a": nil}), `unknown argument "a"; work anonymise takes no arguments`)
}

func TestScaffoldParsesAsItIs(t *testing.T) {
	t.Parallel()
	src := Scaffold("x", `public."Odd Name"`, []string{"tenant_id", "Id"}, true)
	w := parsed(t, src)
	assert.Equal(t, []string{"tenant_id", "Id"}, w.Cursor)
	assert.Equal(t, `public."Odd Name"`, w.Table)
	assert.True(t, w.RepeatedKeys)
	assert.Contains(t, src, `-- cursor: tenant_id, "Id"`)
	assert.False(t, parsed(t, Scaffold("x", "public.users", []string{"id"}, false)).RepeatedKeys)
}

func TestTheExampleWorksParse(t *testing.T) {
	t.Parallel()
	works, err := LoadDir("../../works")
	require.NoError(t, err)
	assert.GreaterOrEqual(t, len(works), 3)
	_, err = NewRegistry(works...)
	assert.NoError(t, err)
}
