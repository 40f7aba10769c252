package work

import "strings"

// blockComment reads /* … */, which nests in PostgreSQL.
func (l *lexer) blockComment() error {
	start, depth := l.pos, 0
	for l.pos < len(l.src) {
		switch {
		case l.at("/*"):
			depth++
			l.pos += 2
		case l.at("*/"):
			depth--
			l.pos += 2
			if depth == 0 {
				return nil
			}
		default:
			l.pos++
		}
	}
	return unterminated(start, "comment", "close it with */ (comments nest)")
}

// quoted reads a prefix of that many bytes, then a text in quotes, in which a doubled quote stands for one.
func (l *lexer) quoted(prefix int, quote byte, escapes bool) error {
	start := l.pos
	l.pos += prefix + 1
	if quote == '\'' {
		l.escapes = escapes
	}
	for l.pos < len(l.src) {
		switch c := l.src[l.pos]; {
		case escapes && c == '\\':
			l.pos++
		case c == quote && l.peek(1) == quote:
			l.pos++
		case c == quote:
			l.pos++
			return nil
		}
		l.pos++
	}
	l.pos = len(l.src)
	if quote == '"' {
		return unterminated(start, "quoted name", `close it with " (a quote inside is doubled)`)
	}
	return unterminated(start, "string", "close it with ' (a quote inside is doubled)")
}

// continuesEscapes reports whether the constant that begins here continues one in which backslashes escape: between the two stand
// only white space and line comments, with a line break.
func (l *lexer) continuesEscapes() bool {
	if !l.escapes {
		return false
	}
	broken := false
	for i := len(l.tokens) - 1; i >= 0; i-- {
		text := l.src[l.tokens[i].start:l.tokens[i].end]
		switch kind := l.tokens[i].kind; {
		case kind == stringToken:
			return broken
		case kind == spaceToken:
			broken = broken || strings.ContainsAny(text, "\n\r")
		case kind != commentToken || strings.HasPrefix(text, "/*"):
			return false
		}
	}
	return false
}

// dollar reads what begins with $: a parameter ($1), a constant in dollar quotes ($tag$ … $tag$), or a stray character. A $ inside an
// identifier never comes here.
func (l *lexer) dollar() (tokenKind, error) {
	start := l.pos
	l.pos++
	if isDigit(l.peek(0)) {
		l.skip(isDigit)
		return parameterToken, nil
	}
	if isIdentifierStart(l.peek(0)) {
		l.skip(func(c byte) bool { return isIdentifierPart(c) && c != '$' })
	}
	if l.peek(0) != '$' {
		l.pos = start + 1
		return punctuationToken, nil
	}
	l.pos++
	tag := l.src[start:l.pos]
	end := strings.Index(l.src[l.pos:], tag)
	if end < 0 {
		return stringToken, unterminated(start, "string", "close it with "+tag)
	}
	l.pos += end + len(tag)
	l.escapes = false
	return stringToken, nil
}
