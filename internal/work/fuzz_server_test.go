package work

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// These targets ask a real server. Each process of the fuzzer has a database and a connection of its own, opened once.

func fuzzConnection(f *testing.F) *pgx.Conn {
	f.Helper()
	conn := connect(f)
	execute(f, conn, "SET statement_timeout = '30s'")
	return conn
}

// FuzzKeys proves for each type of key that a value comes back from the server as the very text that it gave, whatever session it
// goes through, and that a walk over rows with such keys meets each of them exactly once.
func FuzzKeys(f *testing.F) {
	conn := fuzzConnection(f)
	for i, name := range KeyTypes() {
		column := Column{"key", name}
		execute(f, conn, fmt.Sprintf("CREATE TABLE public.keys_%d (key %s PRIMARY KEY, n int NOT NULL DEFAULT 0)", i, column.Type))
	}
	f.Fuzz(func(t *testing.T, kind uint8, a, b, c string, seed uint64) {
		number := int(kind) % len(KeyTypes())
		name := KeyTypes()[number]
		table := fmt.Sprintf("keys_%d", number)
		values := append([]string{a, b, c}, texts[name](rand.New(rand.NewPCG(seed, 0)))[:20]...)
		// In a transaction that is rolled back: faster than emptying the table, and nothing is left behind.
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback(context.Background()) }()
		total := 0
		for _, text := range values {
			total += insertKey(t, tx, table, name, text)
		}
		checkRoundTrips(t, tx, table, name)
		w := &Work{Name: "count", Table: "public." + table, Cursor: []string{"key"}}
		if w.statement, err = compile(source{"count", "UPDATE public." + table + " AS k SET n = n + 1 WHERE @batch(k)", 1}, w, true); err != nil {
			t.Fatal(err)
		}
		s := NewStatements(w, Target{Schema: "public", Table: table, Columns: []Column{{"key", name}}})
		until := lastKey(t, tx.Conn(), s)
		sizes := []int{1 + int(seed%7), 1 + int(seed/7%3)}
		if changed := walk(t, tx.Conn(), s, Range{nil, until}, sizes...); changed != int64(total) {
			t.Fatalf("%d of %d rows changed", changed, total)
		}
		var wrong int
		if err := tx.QueryRow(t.Context(), "SELECT count(*) FROM public."+table+" WHERE n <> 1").Scan(&wrong); err != nil || wrong > 0 {
			t.Fatalf("%d rows were not met once: %v", wrong, err)
		}
	})
}

// insertKey adds a row where the text is one of the type's, and returns how many it has added: the same key twice is one.
func insertKey(t *testing.T, tx pgx.Tx, table, name, text string) int {
	t.Helper()
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) || len(text) > 1000 {
		return 0 // no text of the server's, or too long for its index
	}
	nested, err := tx.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tag, err := nested.Exec(t.Context(), fmt.Sprintf("INSERT INTO public.%s (key) VALUES ($1::text::%s) ON CONFLICT DO NOTHING", table, name), text)
	var refused *pgconn.PgError
	switch {
	case err == nil:
		if err := nested.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		return int(tag.RowsAffected())
	case errors.As(err, &refused) && (refused.Code[:2] == "22" || refused.Code[:2] == "54"): // no value of the type, or a number too long for an index
		if err := nested.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		return 0
	}
	t.Fatal(err)
	return 0
}

// checkRoundTrips sends each key to Go and back, as text[] and as the parameter of a statement.
func checkRoundTrips(t *testing.T, tx pgx.Tx, table, name string) {
	t.Helper()
	rows, err := tx.Query(t.Context(), "SELECT ARRAY[key::text] FROM public."+table)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := pgx.CollectRows(rows, pgx.RowTo[Key])
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		var back Key
		var same, one bool
		err := tx.QueryRow(t.Context(), fmt.Sprintf(`SELECT $1::text[], ($1::text[])[1]::%[1]s::text = $2::text COLLATE "C",
			(SELECT count(*) = 1 FROM public.%[2]s AS k WHERE k.key = $2::text::%[1]s)`, name, table), key, key[0]).Scan(&back, &same, &one)
		if err != nil || len(back) != 1 || back[0] != key[0] || !same || !one {
			t.Fatalf("%s %q came back as %q (the same text: %v, found by it: %v): %v", name, key, back, same, one, err)
		}
	}
}

// FuzzArguments proves that a value given for an argument reaches the statement as that value or is refused, and never becomes a part of its text.
func FuzzArguments(f *testing.F) {
	conn := fuzzConnection(f)
	types := []string{"text", "int", "numeric(10,2)", "timestamptz", "jsonb", "text[]", "boolean", "bytea", "interval", "character varying"}
	f.Fuzz(func(t *testing.T, kind uint8, object []byte, text string) {
		checkObject(t, object)
		if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
			return // refused before it is stored
		}
		w := &Work{Name: "x", Table: "public.t", Cursor: []string{"id"}, Arguments: []Argument{{"a", types[int(kind)%len(types)]}}}
		encoded, err := json.Marshal(map[string]string{"a": text})
		if err != nil {
			t.Fatal(err)
		}
		// As it is stored: jsonb writes it anew.
		var stored []byte
		if err := conn.QueryRow(t.Context(), "SELECT $1::text::jsonb", string(encoded)).Scan(&stored); err != nil {
			t.Fatal(err)
		}
		arguments, err := ReadArguments(stored)
		if err != nil {
			t.Fatal(err)
		}
		if back, given := arguments.Get("a"); !given || back != text {
			t.Fatalf("%q came back as %q", text, back)
		}
		if err := w.CheckArguments(arguments); err != nil {
			t.Fatal(err)
		}
		sql, values := NewStatements(w, Target{Schema: "public", Table: "t", Columns: []Column{{"id", "bigint"}}}).ArgumentCheck(arguments)
		if want := fmt.Sprintf("SELECT $1::text::%s", w.Arguments[0].Type); sql != want {
			t.Fatalf("%q instead of %q", sql, want)
		}
		var ours, plain *string
		err = conn.QueryRow(t.Context(), "SELECT ("+sql+")::text", values...).Scan(&ours)
		plainErr := conn.QueryRow(t.Context(), fmt.Sprintf("SELECT CAST(CAST($1 AS text) AS %s)::text", w.Arguments[0].Type), text).Scan(&plain)
		if (err == nil) != (plainErr == nil) || err == nil && (ours == nil || plain == nil || *ours != *plain) {
			t.Fatalf("%q: %v and %v", text, err, plainErr)
		}
		if err != nil && !isDataError(err) {
			t.Fatalf("%q is not refused as a value: %v", text, err)
		}
	})
}

func isDataError(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && (refused.Code[:2] == "22" || refused.Code[:2] == "54")
}

// checkObject proves that any object is read or refused, and a text in it as JSON has it.
func checkObject(t *testing.T, object []byte) {
	t.Helper()
	arguments, err := ReadArguments(object)
	if err != nil {
		return
	}
	var plain map[string]any
	decoder := json.NewDecoder(bytes.NewReader(object))
	decoder.UseNumber() // 1e400 is a number, though none of Go's
	if err := decoder.Decode(&plain); err != nil || len(plain) != len(arguments) {
		t.Fatalf("%q was read as %v: %v", object, arguments, err)
	}
	for name, value := range plain {
		text, given := arguments.Get(name)
		if want, isText := value.(string); isText && text != want || given != (value != nil) {
			t.Fatalf("%q of %q was read as %q", name, object, text)
		}
	}
}
