package work

import (
	"fmt"
	"strings"
)

// tokenKind says what a token of SQL is, as far as this package has to know.
type tokenKind int

const (
	spaceToken tokenKind = iota
	commentToken
	wordToken        // an identifier without quotes, or a keyword
	quotedToken      // "an identifier"
	unicodeToken     // U&"an identifier"; its escapes are not decoded
	stringToken      // every kind of constant in quotes, dollar quotes included
	numberToken      // 1, 1.5e-3, 0xFF
	operatorToken    // a run of operator characters, as PostgreSQL's lexer reads it
	punctuationToken // ( ) [ ] , ; . : :: and whatever else stands alone
	parameterToken   // $1
	placeholderToken // @batch, @argument
)

// token is the piece src[start:end] of the text that was lexed.
type token struct {
	kind       tokenKind
	start, end int
}

// lexError is a place in the text where a token begins that never ends.
type lexError struct {
	offset  int
	message string
}

func (e *lexError) Error() string { return e.message }

// lexer cuts SQL into tokens by PostgreSQL's own rules (scan.l), with standard_conforming_strings on. Comments, constants and
// quoted names are single tokens, so that nothing inside them is ever taken for a placeholder, a keyword or a semicolon.
type lexer struct {
	src    string
	pos    int
	tokens []token
	// escapes is true while backslashes escape in a constant that may go on after a line break: E'a' <newline> 'b\''.
	escapes bool
}

// lex returns the tokens of src, which tile it: each token starts where the one before it ended.
func lex(src string) ([]token, error) {
	l := &lexer{src: src}
	for l.pos < len(src) {
		start := l.pos
		kind, err := l.next()
		if err != nil {
			return nil, err
		}
		l.tokens = append(l.tokens, token{kind, start, l.pos})
	}
	return l.tokens, nil
}

// next moves past one token and returns its kind.
func (l *lexer) next() (tokenKind, error) {
	c := l.src[l.pos]
	switch {
	case isSpace(c):
		l.skip(isSpace)
		return spaceToken, nil
	case l.at("--"):
		l.skip(func(c byte) bool { return c != '\n' && c != '\r' })
		return commentToken, nil
	case l.at("/*"):
		return commentToken, l.blockComment()
	case c == '\'':
		return stringToken, l.quoted(0, '\'', l.continuesEscapes())
	case c == '"':
		return quotedToken, l.quoted(0, '"', false)
	case c == '$':
		return l.dollar()
	case isDigit(c), c == '.' && isDigit(l.peek(1)):
		l.number()
		return numberToken, nil
	case isIdentifierStart(c):
		return l.word()
	case c == '@' && isIdentifierStart(l.peek(1)):
		l.pos++
		l.skip(isIdentifierPart)
		return placeholderToken, nil
	case isOperator(c):
		l.operator()
		return operatorToken, nil
	case l.at("::"):
		l.pos += 2
		return punctuationToken, nil
	}
	l.pos++
	return punctuationToken, nil
}

// word reads an identifier or keyword, or the constant that such a letter introduces: E'…', U&'…', B'…', X'…', N'…'.
func (l *lexer) word() (tokenKind, error) {
	switch c := l.src[l.pos] | 0x20; {
	case c == 'e' && l.peek(1) == '\'':
		return stringToken, l.quoted(1, '\'', true)
	case strings.IndexByte("bxn", c) >= 0 && l.peek(1) == '\'':
		return stringToken, l.quoted(1, '\'', false)
	case c == 'u' && l.peek(1) == '&' && l.peek(2) == '\'':
		return stringToken, l.quoted(2, '\'', false)
	case c == 'u' && l.peek(1) == '&' && l.peek(2) == '"':
		return unicodeToken, l.quoted(2, '"', false)
	}
	l.skip(isIdentifierPart)
	return wordToken, nil
}

// number reads a numeric constant, with the sign of its exponent.
func (l *lexer) number() {
	start := l.pos
	for l.pos < len(l.src) {
		c := l.src[l.pos]
		exponent := (c == '+' || c == '-') && l.pos > start && l.src[l.pos-1]|0x20 == 'e' && !l.hexadecimal(start)
		if !exponent && c != '.' && (!isIdentifierPart(c) || c == '$') {
			return
		}
		l.pos++
	}
}

// hexadecimal reports whether the number that starts at start is written 0x…, where an e is a digit.
func (l *lexer) hexadecimal(start int) bool {
	return strings.HasPrefix(strings.ToLower(l.src[start:l.pos]), "0x")
}

// operator reads operator characters up to where a comment starts, as PostgreSQL does: `*/*` is `*` and a comment.
func (l *lexer) operator() {
	for l.pos < len(l.src) && isOperator(l.src[l.pos]) && !l.at("--") && !l.at("/*") {
		l.pos++
	}
}

// unterminated is the error of a token that begins at start and never ends.
func unterminated(start int, what, mend string) error {
	return &lexError{start, fmt.Sprintf("this %s never ends; %s", what, mend)}
}

func (l *lexer) at(prefix string) bool { return strings.HasPrefix(l.src[l.pos:], prefix) }

// peek returns the byte n places ahead, 0 past the end.
func (l *lexer) peek(n int) byte {
	if l.pos+n < len(l.src) {
		return l.src[l.pos+n]
	}
	return 0
}

func (l *lexer) skip(while func(byte) bool) {
	for l.pos < len(l.src) && while(l.src[l.pos]) {
		l.pos++
	}
}

func isSpace(c byte) bool {
	return c == ' ' || c >= '\t' && c <= '\r'
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// isIdentifierStart counts every byte of a multi-byte character as a letter, as PostgreSQL does.
func isIdentifierStart(c byte) bool {
	return c == '_' || c >= 0x80 || c|0x20 >= 'a' && c|0x20 <= 'z'
}

func isIdentifierPart(c byte) bool {
	return isIdentifierStart(c) || isDigit(c) || c == '$'
}

func isOperator(c byte) bool {
	return strings.IndexByte("+-*/<>=~!@#%^&|`?", c) >= 0
}
