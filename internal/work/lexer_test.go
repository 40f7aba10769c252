package work

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var kindNames = map[tokenKind]string{
	commentToken: "comment", wordToken: "word", quotedToken: "quoted", unicodeToken: "unicode", stringToken: "string",
	numberToken: "number", operatorToken: "operator", punctuationToken: "punctuation", parameterToken: "parameter",
	placeholderToken: "placeholder",
}

// describe lists the tokens other than white space, as "kind text".
func describe(t *testing.T, src string) []string {
	t.Helper()
	tokens, err := lex(src)
	require.NoError(t, err)
	var described []string
	for _, token := range tokens {
		if token.kind != spaceToken {
			described = append(described, kindNames[token.kind]+" "+src[token.start:token.end])
		}
	}
	return described
}

func TestLexReadsSQLAsPostgreSQLDoes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, src string
		want      []string
	}{
		{"words and punctuation", "a.b, c1$x;", []string{"word a", "punctuation .", "word b", "punctuation ,", "word c1$x", "punctuation ;"}},
		{"letters beyond ASCII", "größe=1", []string{"word größe", "operator =", "number 1"}},
		{"a line comment ends at any line break", "a -- @x ; '\nb -- c\rd", []string{"word a", "comment -- @x ; '", "word b", "comment -- c", "word d"}},
		{"block comments nest", "a /* 1 /* @batch */ ' */ b", []string{"word a", "comment /* 1 /* @batch */ ' */", "word b"}},
		{"a comment ends an operator", "a*/**/b+--c", []string{"word a", "operator *", "comment /**/", "word b", "operator +", "comment --c"}},
		{"doubled quotes", `'it''s @x'"a""@b"`, []string{`string 'it''s @x'`, `quoted "a""@b"`}},
		{"a backslash is itself", `'a\' @x`, []string{`string 'a\'`, "placeholder @x"}},
		{"a backslash escapes after E", `E'a\'@x' e'\\'@y`, []string{`string E'a\'@x'`, `string e'\\'`, "placeholder @y"}},
		{"a word that ends in e is no prefix", `like'\' @x`, []string{"word like", `string '\'`, "placeholder @x"}},
		{"escapes go on after a line break", "E'a' -- c\n '\\'@x'", []string{"string E'a'", "comment -- c", `string '\'@x'`}},
		{"escapes do not go on in the same line", `E'a' '\'@x`, []string{"string E'a'", `string '\'`, "placeholder @x"}},
		{"escapes do not go on behind a block comment", "E'a'\n/**/ '\\'@x", []string{"string E'a'", "comment /**/", `string '\'`, "placeholder @x"}},
		{"escapes do not go on behind a word", "E'a'\n, '\\'@x", []string{"string E'a'", "punctuation ,", `string '\'`, "placeholder @x"}},
		{"other constants", `B'01' x'fF' n'a' U&'\0041' u&"\0041"`, []string{"string B'01'", "string x'fF'", "string n'a'", `string U&'\0041'`, `unicode u&"\0041"`}},
		{"an operator before a string is no prefix", `u & 'a'`, []string{"word u", "operator &", "string 'a'"}},
		{"dollar quotes", "$$ @x ' $$ $a$ $$ @y $a$ $ä1$;$ä1$", []string{"string $$ @x ' $$", "string $a$ $$ @y $a$", "string $ä1$;$ä1$"}},
		{"a dollar inside a word quotes nothing", "a$b$ @x", []string{"word a$b$", "placeholder @x"}},
		{"a stray dollar", "$a @x", []string{"punctuation $", "word a", "placeholder @x"}},
		{"parameters", "$1 $23", []string{"parameter $1", "parameter $23"}},
		{"numbers", "1 1.5 .5 1e-5 1E+5 0xFE-1 1_000", []string{"number 1", "number 1.5", "number .5", "number 1e-5", "number 1E+5", "number 0xFE", "operator -", "number 1", "number 1_000"}},
		{"casts and slices", "a::int[1:2]", []string{"word a", "punctuation ::", "word int", "punctuation [", "number 1", "punctuation :", "number 2", "punctuation ]"}},
		{"operators with an at sign", "a @> b <@ c @@ d @-@ e @ f ?| g", []string{"word a", "operator @>", "word b", "operator <@", "word c", "operator @@", "word d", "operator @-@", "word e", "operator @", "word f", "operator ?|", "word g"}},
		{"an at sign inside an operator is no placeholder", "a<@b =@c @@d", []string{"word a", "operator <@", "word b", "operator =@", "word c", "operator @@", "word d"}},
		{"placeholders", "(@a,@b_2||@C", []string{"punctuation (", "placeholder @a", "punctuation ,", "placeholder @b_2", "operator ||@", "word C"}},
		{"placeholders beside quotes and comments", "'a'@b/*c*/@d", []string{"string 'a'", "placeholder @b", "comment /*c*/", "placeholder @d"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.want, describe(t, test.src))
		})
	}
}

func TestLexSaysWhatNeverEnds(t *testing.T) {
	t.Parallel()
	tests := []struct{ src, message string }{
		{"a 'b", "this string never ends; close it with ' (a quote inside is doubled)"},
		{`a E'b\'`, "this string never ends; close it with ' (a quote inside is doubled)"},
		{`a E'b\`, "this string never ends; close it with ' (a quote inside is doubled)"},
		{`a "b`, `this quoted name never ends; close it with " (a quote inside is doubled)`},
		{"a /* /* */", "this comment never ends; close it with */ (comments nest)"},
		{"a $x$ $y$", "this string never ends; close it with $x$"},
	}
	for _, test := range tests {
		_, err := lex(test.src)
		var at *lexError
		require.ErrorAs(t, err, &at, test.src)
		assert.Equal(t, test.message, at.message, test.src)
		assert.Equal(t, 2, at.offset, test.src)
	}
}
