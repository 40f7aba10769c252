package work

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// checkScope refuses a scope that could be anything else than one predicate in parentheses, and what no index's predicate has. Whether it is
// a boolean expression over the table's columns only the server knows: see [CheckWork].
func (w *Work) checkScope() error {
	p, err := w.scopeParser()
	if err != nil || p == nil {
		return err
	}
	var open []string // what closes the parentheses that are open
	for i, t := range p.tokens {
		switch word := p.word(i); {
		case t.kind == placeholderToken || t.kind == parameterToken:
			return fmt.Errorf("the scope holds %s, but an index has no parameters; write a constant, or leave it to the statement "+
				"(the operator @ needs a space after it)", word)
		case word == ";":
			return errors.New("the scope holds a semicolon; it is one predicate, so join two by AND")
		case word == "(":
			open = append(open, ")")
		case word == "[":
			open = append(open, "]")
		case word == ")" || word == "]":
			if len(open) == 0 || open[len(open)-1] != word {
				return fmt.Errorf("the scope has a %s that closes nothing; balance its parentheses", word)
			}
			open = open[:len(open)-1]
		case p.isTableName(i):
			return fmt.Errorf("the scope writes %s.%s; name columns without the table, as in %s", word, p.word(i+2), p.word(i+2))
		}
	}
	switch {
	case len(open) > 0:
		return fmt.Errorf("the scope lacks a %s at its end; balance its parentheses", open[len(open)-1])
	case p.keyword(0, "WHERE"):
		return errors.New("the scope begins with WHERE; leave that word out")
	}
	return nil
}

// scopeParser reads the scope's tokens; nil when the work has none. Comments are refused, since a -- would reach beyond the scope.
func (w *Work) scopeParser() (*parser, error) {
	if w.Scope == "" {
		return nil, nil
	}
	tokens, err := lex(w.Scope)
	if err != nil {
		return nil, fmt.Errorf("scope %s: %w", w.Scope, err)
	}
	if slices.ContainsFunc(tokens, func(t token) bool { return t.kind == commentToken }) {
		return nil, fmt.Errorf("the scope holds a comment; put it below %q", marker)
	}
	p := &parser{source: source{text: w.Scope}, work: w}
	p.keep(tokens)
	if len(p.tokens) == 0 {
		return nil, errors.New("the scope is empty; write a predicate, or leave it out for all rows")
	}
	return p, nil
}

// isTableName reports whether the token qualifies a column by the table's name, or by what boundary queries happen to call it.
func (p *parser) isTableName(i int) bool {
	isName := func(i int) bool { return p.kind(i) == wordToken || p.kind(i) == quotedToken }
	if !isName(i) || p.word(i+1) != "." || !isName(i+2) {
		return false
	}
	if p.word(i+3) == "(" || p.word(i-1) == "::" || p.keyword(i-1, "AS", "COLLATE") {
		return false // a schema of that name, before a function, a type or a collation
	}
	table, err := p.work.TableName()
	name, nameErr := identifier(p.word(i))
	return err == nil && nameErr == nil && (name == table[len(table)-1] || name == ownAlias)
}

// canonicalScope is the scope's tokens without layout; "" when the work has none.
func (w *Work) canonicalScope() string {
	p, err := w.scopeParser()
	switch {
	case err != nil:
		return strings.TrimSpace(w.Scope) // it cannot run, and checkScope says why
	case p == nil:
		return ""
	}
	return p.canonical()
}
