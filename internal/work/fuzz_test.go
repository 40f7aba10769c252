package work

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// The seeds of these targets are in testdata/fuzz; `make fuzz` goes on from there.

// kindsAndTexts describes tokens apart from where they stand. Space and comments are left out, since they only divide.
func kindsAndTexts(src string, tokens []token) []string {
	var described []string
	for _, t := range tokens {
		if t.kind != spaceToken && t.kind != commentToken {
			described = append(described, kindNames[t.kind]+" "+src[t.start:t.end])
		}
	}
	return described
}

func FuzzLexer(f *testing.F) {
	f.Add("UPDATE t SET a = @b WHERE @batch(u)")
	f.Fuzz(func(t *testing.T, src string) {
		tokens, err := lex(src)
		if err != nil {
			var at *lexError
			if !errors.As(err, &at) || at.offset < 0 || at.offset >= len(src) {
				t.Fatalf("the error %v is not at a place of the text", err)
			}
			return
		}
		checkTiling(t, src, tokens)
		checkPrefixes(t, src, tokens)
		for _, token := range tokens {
			checkToken(t, src[token.start:token.end], token.kind)
		}
	})
}

// checkTiling proves that the tokens, one behind the other, are the text.
func checkTiling(t *testing.T, src string, tokens []token) {
	t.Helper()
	end := 0
	for _, token := range tokens {
		if token.start != end || token.end <= token.start {
			t.Fatalf("token %v of %q does not follow %d", token, src, end)
		}
		end = token.end
	}
	if end != len(src) {
		t.Fatalf("the tokens of %q end at %d of %d", src, end, len(src))
	}
}

// checkPrefixes proves that what a token is does not depend on what comes behind it: cut off there, the text has the same tokens.
func checkPrefixes(t *testing.T, src string, tokens []token) {
	t.Helper()
	// Some of them: all would take the square of the length.
	for i := 0; i < len(tokens); i += 1 + len(tokens)/8 {
		cut, err := lex(src[:tokens[i].end])
		if err != nil || !slices.Equal(cut, tokens[:i+1]) {
			t.Fatalf("%q cut behind token %d has %v, not %v: %v", src, i, cut, tokens[:i+1], err)
		}
	}
}

// checkToken proves, by rules of its own, that a token is of its kind. Nothing that quotes or comments may hold a placeholder that counts, and nothing
// else may hold what quotes.
func checkToken(t *testing.T, text string, kind tokenKind) {
	t.Helper()
	// A name may hold dollars: a$$ is one.
	quotes := strings.ContainsAny(text, `'"`) || kind != wordToken && kind != placeholderToken && strings.Contains(text, "$$")
	comments := strings.Contains(text, "--") || strings.Contains(text, "/*")
	var wrong bool
	switch kind {
	case spaceToken:
		wrong = strings.Trim(text, " \t\n\v\f\r") != ""
	case commentToken:
		wrong = !strings.HasPrefix(text, "--") && (!strings.HasPrefix(text, "/*") || !strings.HasSuffix(text, "*/")) ||
			strings.HasPrefix(text, "--") && strings.ContainsAny(text, "\r\n") ||
			strings.HasPrefix(text, "/*") && strings.Count(text, "*/") == 0
	case quotedToken, unicodeToken:
		inner, _ := strings.CutSuffix(strings.TrimLeft(text, "uU&")[1:], `"`)
		wrong = !strings.HasSuffix(text, `"`) || strings.Contains(strings.ReplaceAll(inner, `""`, ""), `"`)
	case stringToken:
		wrong = !strings.HasSuffix(text, "'") && !strings.HasSuffix(text, "$")
	case placeholderToken:
		wrong = !strings.HasPrefix(text, "@") || len(text) < 2 || quotes || comments || strings.ContainsAny(text, " \t\n\v\f\r;")
	default:
		wrong = quotes && text != "'" || comments || kind != punctuationToken && strings.Contains(text, ";")
	}
	if wrong {
		t.Fatalf("%q is no %s", text, kindNames[kind])
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(usersEmailLower))
	f.Fuzz(func(t *testing.T, src []byte) {
		w, err := Parse("x", src)
		if err != nil {
			if text := err.Error(); strings.ContainsAny(text, "\n\r") || !utf8.ValidString(text) {
				t.Fatalf("the error is not one line of text: %q", text)
			}
			return
		}
		if again, err := Parse("x", src); err != nil || again.Checksum() != w.Checksum() {
			t.Fatalf("read again it is another work: %v", err)
		}
		target := Target{Schema: "public", Table: "t"}
		for _, column := range w.Cursor {
			target.Columns = append(target.Columns, Column{column, "bigint"})
		}
		s := NewStatements(w, target)
		for i, shape := range allShapes(len(target.Columns)) {
			checkExpansion(t, w, s, shape, s.works[i].sql)
		}
	})
}

// checkExpansion proves that the statement as it is sent is the statement as it was written, with the range and the arguments in the places of their
// placeholders and nowhere else: never inside a string, a quoted name or a comment, and never grown together with what stands beside it. It also
// proves that the range is there exactly once.
func checkExpansion(t *testing.T, w *Work, s *Statements, shape shape, sent string) {
	t.Helper()
	sentTokens, err := lex(sent)
	if err != nil {
		t.Fatalf("what is sent cannot be read: %v: %q", err, sent)
	}
	var want []string
	text := func(sql string) {
		tokens, err := lex(sql)
		if err != nil {
			t.Fatalf("a piece cannot be read: %v: %q", err, sql)
		}
		want = append(want, kindsAndTexts(sql, tokens)...)
	}
	ranges, numbers := 0, []string{}
	for _, piece := range w.statement.pieces {
		text(piece.text)
		switch {
		case piece.last:
		case piece.batch:
			ranges++
			text(shape.predicate(s.target.Columns, piece.alias))
		default:
			number := slices.Index(numbers, piece.argument)
			if number < 0 {
				numbers = append(numbers, piece.argument)
				number = len(numbers) - 1
			}
			text("(" + value(shape.parameters()+1+number, Column{Type: s.types[piece.argument]}) + ")")
		}
	}
	if ranges != 1 {
		t.Fatalf("@batch stands %d times for the range: %q", ranges, sent)
	}
	if got := kindsAndTexts(sent, sentTokens); !slices.Equal(got, want) {
		t.Fatalf("%q\nwas sent as  %q\ninstead of   %q", sent, got, want)
	}
	for _, token := range sentTokens {
		if word := sent[token.start:token.end]; token.kind == placeholderToken || word == ";" {
			t.Fatalf("%q is left in %q", word, sent)
		}
	}
}

func FuzzNames(f *testing.F) {
	f.Add("public", "users")
	f.Fuzz(func(t *testing.T, schema, table string) {
		checkNames(t, schema, table)
		if checkWorkName(table) == nil {
			// It becomes the name of a file and a word of a shell's.
			if strings.ContainsAny(table, "/\\ '\"$`;&|<>*?~\n\x00") || strings.HasPrefix(table, "-") || strings.HasPrefix(table, ".") {
				t.Fatalf("%q is taken for the name of a work", table)
			}
		}
	})
}

// checkNames proves that a name written by us is read back as itself, by us and by PostgreSQL's rules, whatever it holds, or is refused.
func checkNames(t *testing.T, schema, table string) {
	t.Helper()
	w := &Work{Table: WriteName(schema, table)}
	if strings.ContainsRune(schema+table, 0) {
		// No name holds a NUL: the driver drops it in quoting, so that it must not come so far.
		w.Table = `"` + schema + `"."` + table + `"`
	}
	names, err := w.TableName()
	if !isName(schema) || !isName(table) {
		if err == nil {
			t.Fatalf("%q.%q is no name and was read as %q", schema, table, names)
		}
		return
	}
	if err != nil || !slices.Equal(names, []string{schema, table}) {
		t.Fatalf("%q.%q was written %s and read as %q: %v", schema, table, w.Table, names, err)
	}
	for _, written := range []string{w.Table, pgx.Identifier{schema, table}.Sanitize()} {
		tokens, err := lex(written)
		if err != nil || len(tokens) != 3 || tokens[1].kind != punctuationToken {
			t.Fatalf("%q.%q was written %q, which is not a name, a dot and a name: %v", schema, table, written, err)
		}
	}
}

// isName reports whether PostgreSQL can call something that, in UTF-8.
func isName(name string) bool {
	return name != "" && len(name) <= maxIdentifier && utf8.ValidString(name) && !strings.ContainsRune(name, 0)
}
