package work

import (
	"fmt"
	"slices"
	"strings"
)

// condition is a header that holds one predicate on the table's columns. It is written into queries as it stands, so it must not be able to become
// anything else there.
type condition struct {
	work       *Work
	header     string // scope, remaining
	text       string // "" without one
	noArgument string // why it takes no argument, and what to do instead
	without    string // what the header's absence means
}

func (w *Work) scopeCondition() condition {
	return condition{w, "scope", w.Scope, "an index has no parameters; write a constant, or leave it to the statement", "for all rows"}
}

func (w *Work) remainingCondition() condition {
	return condition{w, "remaining", w.Remaining, "what remains is judged without the arguments; write a constant", "for no proof"}
}

// check refuses what could be anything else than one predicate in parentheses, and what names the table. Whether it is a boolean expression over the
// table's columns only the server knows: see [CheckWork].
func (c condition) check() error {
	p, err := c.parser()
	if err != nil || p == nil {
		return err
	}
	var open []string // what closes the parentheses that are open
	for i, t := range p.tokens {
		switch word := p.word(i); {
		case t.kind == placeholderToken || t.kind == parameterToken:
			return fmt.Errorf("the %s holds %s, but %s (the operator @ needs a space after it)", c.header, word, c.noArgument)
		case word == ";":
			return fmt.Errorf("the %s holds a semicolon; it is one predicate, so join two by AND", c.header)
		case word == "(":
			open = append(open, ")")
		case word == "[":
			open = append(open, "]")
		case word == ")" || word == "]":
			if len(open) == 0 || open[len(open)-1] != word {
				return fmt.Errorf("the %s has a %s that closes nothing; balance its parentheses", c.header, word)
			}
			open = open[:len(open)-1]
		case p.isTableName(i):
			return fmt.Errorf("the %s writes %s.%s; name columns without the table, as in %s", c.header, word, p.word(i+2), p.word(i+2))
		}
	}
	switch {
	case len(open) > 0:
		return fmt.Errorf("the %s lacks a %s at its end; balance its parentheses", c.header, open[len(open)-1])
	case p.keyword(0, "WHERE"):
		return fmt.Errorf("the %s begins with WHERE; leave that word out", c.header)
	}
	return nil
}

// parser reads the tokens; nil when the work has no such header. Comments are refused, since a -- would reach beyond the predicate.
func (c condition) parser() (*parser, error) {
	if c.text == "" {
		return nil, nil
	}
	tokens, err := lex(c.text)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", c.header, c.text, err)
	}
	if slices.ContainsFunc(tokens, func(t token) bool { return t.kind == commentToken }) {
		return nil, fmt.Errorf("the %s holds a comment; put it below %q", c.header, marker)
	}
	p := &parser{source: source{text: c.text}, work: c.work}
	p.keep(tokens)
	if len(p.tokens) == 0 {
		return nil, fmt.Errorf("the %s is empty; write a predicate, or leave it out %s", c.header, c.without)
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

// canonical is the predicate's tokens without layout; "" when the work has none.
func (c condition) canonical() string {
	p, err := c.parser()
	switch {
	case err != nil:
		return strings.TrimSpace(c.text) // it cannot run, and check says why
	case p == nil:
		return ""
	}
	return p.canonical()
}
