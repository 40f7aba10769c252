package work

import "slices"

// checkAssignments refuses a statement that assigns a cursor column of its own table: a row that moves along the cursor is met twice or
// never. The check is lexical and errs on the side of letting pass: a table that is not surely the work's own is none.
func (p *parser) checkAssignments() error {
	own, err := p.work.TableName()
	if err != nil {
		return err
	}
	depth := 0
	targets := map[int]bool{} // by depth: whether the INSERT or MERGE there writes to the work's own table
	for i := range p.tokens {
		switch p.word(i) {
		case "(", "[":
			depth++
		case ")", "]":
			depth--
		}
		var set int // the token after SET
		switch {
		case p.keyword(i, "INTO") && p.keyword(i-1, "INSERT", "MERGE"):
			_, targets[depth] = p.target(i+1, own)
		case p.keyword(i, "UPDATE") && p.keyword(i-1, "DO", "THEN") && p.keyword(i+1, "SET") && targets[depth]:
			set = i + 2
		case p.keyword(i, "UPDATE") && !p.keyword(i-1, "FOR", "KEY"):
			if next, same := p.target(i+1, own); same {
				set = p.afterSet(next)
			}
		}
		if set == 0 {
			continue
		}
		for _, at := range p.assigned(set) {
			name, err := identifier(p.word(at))
			if err == nil && slices.Contains(p.work.Cursor, name) {
				return p.errorAt(p.start(at), "the statement assigns %s, a column of its cursor, so that rows move between batches; "+
					"choose a cursor that the statement does not change", WriteName(name))
			}
		}
	}
	return nil
}

// target reads [ONLY] table and reports whether it is the work's own; next is the token after it.
func (p *parser) target(i int, own []string) (next int, same bool) {
	if p.keyword(i, "ONLY") {
		i++
	}
	var names []string
	for p.kind(i) == wordToken || p.kind(i) == quotedToken {
		name, err := identifier(p.word(i))
		if err != nil {
			return i, false
		}
		names = append(names, name)
		i++
		if p.word(i) != "." {
			break
		}
		i++
	}
	return i, len(names) > 0 && slices.Equal(p.qualify(names), p.qualify(own))
}

// qualify adds the schema that an unqualified name is surely in: the only one of the search path.
func (p *parser) qualify(names []string) []string {
	if len(names) == 1 && len(p.work.SearchPath) == 1 {
		return []string{p.work.SearchPath[0], names[0]}
	}
	return names
}

// afterSet passes [*] [[AS] alias] SET and returns the token after it, 0 where that is not what follows.
func (p *parser) afterSet(i int) int {
	if p.word(i) == "*" {
		i++
	}
	if p.keyword(i, "AS") {
		i++
	}
	if !p.keyword(i, "SET") {
		i++
	}
	if p.keyword(i, "SET") {
		return i + 1
	}
	return 0
}

// assigned returns the tokens that name the assigned columns, from the token after SET to the end of the clause.
func (p *parser) assigned(i int) []int {
	var columns []int
	for i > 0 && i < len(p.tokens) {
		if p.word(i) != "(" {
			columns = append(columns, i)
		}
		for list := i; list < len(p.tokens) && (p.word(list) == "(" && list == i || p.word(list) == ","); list += 2 {
			columns = append(columns, list+1) // (a, b) = …
		}
		i = p.nextAssignment(i)
	}
	return columns
}

// nextAssignment returns the token after the comma that ends the assignment at i, 0 where the clause ends.
func (p *parser) nextAssignment(i int) int {
	depth, cases := 0, 0
	for ; i < len(p.tokens) && depth >= 0; i++ {
		switch word := p.word(i); {
		case word == "(" || word == "[":
			depth++
		case word == ")" || word == "]":
			depth--
		case depth > 0:
		case word == ",":
			return i + 1
		case p.keyword(i, "CASE"):
			cases++
		case p.keyword(i, "END"):
			cases--
		case p.keyword(i, "WHERE", "RETURNING"),
			p.keyword(i, "FROM") && !p.keyword(i-1, "DISTINCT"),
			p.keyword(i, "WHEN") && cases == 0:
			return 0
		}
	}
	return 0
}
