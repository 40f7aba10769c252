package work

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bbm-runner/bbm-runner/internal/nearest"
)

// template is one SQL statement, cut at its placeholders. It never changes once it is made.
type template struct {
	pieces    []piece
	canonical string // the statement's tokens without comments and layout; what the checksum covers
	line      int    // of the file, where the statement begins
}

// piece is text, followed by what a placeholder stands for.
type piece struct {
	text     string
	batch    bool
	alias    string // of @batch(alias), unquoted; "" without
	argument string
	last     bool // nothing follows
}

// batchWord is the placeholder of the range predicate; no argument may have its name.
const batchWord = "batch"

// parser walks the tokens of one statement.
type parser struct {
	source
	work   *Work
	tokens []token // without space and comments
}

// compile reads one statement for a work. A work file must use each of its arguments; one of several statements of a Go work need not.
func compile(src source, w *Work, useAll bool) (*template, error) {
	tokens, err := lex(src.text)
	if err != nil {
		var at *lexError
		if errors.As(err, &at) {
			return nil, src.errorAt(at.offset, "%s", at.message)
		}
		return nil, err
	}
	p := &parser{source: src, work: w}
	p.keep(tokens)
	if err := p.checkStatement(); err != nil {
		return nil, err
	}
	if err := p.checkLocking(); err != nil {
		return nil, err
	}
	compiled, err := p.cut(useAll)
	if err != nil {
		return nil, err
	}
	if err := p.checkAssignments(); err != nil {
		return nil, err
	}
	return compiled, nil
}

// keep takes the tokens that mean something.
func (p *parser) keep(tokens []token) {
	for _, t := range tokens {
		if t.kind != spaceToken && t.kind != commentToken {
			p.tokens = append(p.tokens, t)
		}
	}
}

// cut replaces the placeholders.
func (p *parser) cut(useAll bool) (*template, error) {
	compiled := &template{canonical: p.canonical(), line: p.errorAt(p.start(0), "").Line}
	declared, used := p.work.argumentNames(), map[string]bool{}
	start, batches := p.start(0), 0
	for i := 0; i < len(p.tokens); i++ {
		t := p.tokens[i]
		if err := p.checkPlaceholder(i, declared); err != nil {
			return nil, err
		}
		if t.kind != placeholderToken {
			continue
		}
		next := piece{text: p.text[start:t.start]}
		if name := p.word(i)[1:]; name == batchWord {
			if batches++; batches > 1 {
				return nil, p.errorAt(t.start, "a second @batch; use it exactly once, where it limits the rows that change")
			}
			alias, skipped, err := p.alias(i)
			if err != nil {
				return nil, err
			}
			next.batch, next.alias = true, alias
			i += skipped
		} else {
			next.argument, used[name] = name, true
		}
		compiled.pieces = append(compiled.pieces, next)
		start = p.tokens[i].end
	}
	if batches == 0 {
		return nil, p.errorAt(p.start(0), "@batch is missing; put it into the WHERE clause, as in WHERE @batch or WHERE @batch(u)")
	}
	for _, name := range declared {
		if useAll && !used[name] {
			return nil, p.errorAt(p.start(0), "argument %q is declared but not used; write @%s in the statement or remove its header", name, name)
		}
	}
	end := p.tokens[len(p.tokens)-1].end
	compiled.pieces = append(compiled.pieces, piece{text: p.text[start:end], last: true})
	return compiled, nil
}

// checkPlaceholder refuses, at one token, what is nearly a placeholder or stands for nothing.
func (p *parser) checkPlaceholder(i int, declared []string) error {
	t, word := p.tokens[i], p.word(i)
	var before token
	if i > 0 {
		before = p.tokens[i-1]
	}
	touches := i > 0 && before.end == t.start
	switch {
	case t.kind == parameterToken:
		return p.errorAt(t.start, "%s is a positional parameter; declare an argument (-- argument: name type) and write @name", word)
	case t.kind == wordToken && touches && before.kind == operatorToken && strings.HasSuffix(p.word(i-1), "@") &&
		(word == batchWord || slices.Contains(declared, word)):
		return p.errorAt(before.start, "PostgreSQL reads %s as one operator; put a space before @%s", p.word(i-1), word)
	case t.kind != placeholderToken:
		return nil
	case touches && (before.kind == wordToken || before.kind == numberToken):
		return p.errorAt(t.start, "put a space before %s", word)
	case word[1:] == batchWord || slices.Contains(declared, word[1:]):
		return nil
	}
	if near := nearest.Word(word[1:], append(slices.Clone(declared), batchWord)); near != "" {
		return p.errorAt(t.start, "%s is not declared; did you mean @%s?", word, near)
	}
	return p.errorAt(t.start, "%s is not declared; add \"-- argument: %s type\" (the work %s; the operator @ needs a space after it)",
		word, word[1:], takes(declared))
}

// alias reads (alias) after the @batch at i, and says how many tokens it took.
func (p *parser) alias(i int) (alias string, tokens int, err error) {
	if p.word(i+1) != "(" {
		return "", 0, nil
	}
	kind := p.kind(i + 2)
	if kind != wordToken && kind != quotedToken || p.word(i+3) != ")" {
		return "", 0, p.errorAt(p.start(i), "write @batch(alias) with the one name by which the statement calls the table")
	}
	alias, err = identifier(p.word(i + 2))
	if err != nil {
		return "", 0, p.errorAt(p.start(i), "%s", err)
	}
	return alias, 3, nil
}

// expand writes the statement. Placeholders of arguments are numbered from first in the order of their first use; values are in that
// order. predicate writes the range for an alias.
func (t *template) expand(predicate func(alias string) string, types map[string]string, first int) (sql string, arguments []string) {
	var out strings.Builder
	for _, piece := range t.pieces {
		out.WriteString(piece.text)
		switch {
		case piece.last:
		case piece.batch:
			out.WriteString(predicate(piece.alias))
		default:
			number := slices.Index(arguments, piece.argument)
			if number < 0 {
				number = len(arguments)
				arguments = append(arguments, piece.argument)
			}
			// The parentheses keep a subscript that follows from becoming part of the type.
			fmt.Fprintf(&out, "($%d::text::%s)", first+number, types[piece.argument])
		}
	}
	return out.String(), arguments
}

// canonical joins the tokens by single spaces: what is left of a statement without comments, layout and line endings.
func (p *parser) canonical() string {
	words := make([]string, len(p.tokens))
	for i := range p.tokens {
		words[i] = p.word(i)
	}
	return strings.Join(words, " ")
}

// word returns the token's text, "" past the end.
func (p *parser) word(i int) string {
	if i < 0 || i >= len(p.tokens) {
		return ""
	}
	return p.text[p.tokens[i].start:p.tokens[i].end]
}

// kind returns the token's kind, spaceToken past the end.
func (p *parser) kind(i int) tokenKind {
	if i < 0 || i >= len(p.tokens) {
		return spaceToken
	}
	return p.tokens[i].kind
}

// start returns where the token starts, and the end of the text past the last token.
func (p *parser) start(i int) int {
	if i >= len(p.tokens) {
		return len(p.text)
	}
	return p.tokens[i].start
}

// keyword reports whether the token is that word, unquoted, in any case; words must be upper case.
func (p *parser) keyword(i int, words ...string) bool {
	return p.kind(i) == wordToken && slices.Contains(words, strings.ToUpper(p.word(i)))
}
