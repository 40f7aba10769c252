package work

import "slices"

// checkAssignments refuses a statement that assigns a cursor column of its own table: a row that moves along the cursor is met twice or
// never. The check is lexical and errs on the side of letting pass: a table that is not surely the work's own is none.
func (p *parser) checkAssignments() error {
	own, err := p.work.TableName()
	if err != nil {
		return err
	}
	for _, clause := range p.setClauses() {
		if !slices.Equal(p.qualify(clause.table), p.qualify(own)) {
			continue
		}
		for _, at := range clause.columns {
			name, err := identifier(p.word(at))
			if err == nil && slices.Contains(p.work.Cursor, name) {
				return p.errorAt(p.start(at), "the statement assigns %s, a column of its cursor, so that rows move between batches; "+
					"choose a cursor that the statement does not change", WriteName(name))
			}
		}
	}
	return nil
}

// Assignment is one SET clause of a work's statement: of an UPDATE, an ON CONFLICT or a MERGE.
type Assignment struct {
	Table   []string // as the statement calls it: [schema, table] or [table]; nil where that cannot be told
	Columns []string
}

// Assignments returns the statement's SET clauses, in their order; nil for a Go work. They are read from the text alone: what triggers and
// functions assign is not among them.
func (w *Work) Assignments() []Assignment {
	if w.statement == nil {
		return nil
	}
	src := source{text: w.statement.canonical}
	tokens, err := lex(src.text)
	if err != nil {
		return nil // it was lexed before
	}
	p := &parser{source: src, work: w}
	p.keep(tokens)
	var all []Assignment
	for _, clause := range p.setClauses() {
		assignment := Assignment{Table: clause.table}
		for _, at := range clause.columns {
			if name, err := identifier(p.word(at)); err == nil && !slices.Contains(assignment.Columns, name) {
				assignment.Columns = append(assignment.Columns, name)
			}
		}
		all = append(all, assignment)
	}
	return all
}

// setClause is one SET clause: the table's name as it is written, and the tokens that name the assigned columns.
type setClause struct {
	table   []string
	columns []int
}

// setClauses finds the SET clauses of the statement, at any depth.
func (p *parser) setClauses() []setClause {
	var clauses []setClause
	depth := 0
	targets := map[int][]string{} // by depth: the table that the INSERT or MERGE there writes to
	for i := range p.tokens {
		switch p.word(i) {
		case "(", "[":
			depth++
		case ")", "]":
			depth--
		}
		switch {
		case p.keyword(i, "INTO") && p.keyword(i-1, "INSERT", "MERGE"):
			_, targets[depth] = p.target(i + 1)
		case p.keyword(i, "UPDATE") && p.keyword(i-1, "DO", "THEN") && p.keyword(i+1, "SET"):
			clauses = append(clauses, setClause{targets[depth], p.assigned(i + 2)})
		case p.keyword(i, "UPDATE") && !p.keyword(i-1, "FOR", "KEY"):
			next, table := p.target(i + 1)
			if set := p.afterSet(next); set > 0 {
				clauses = append(clauses, setClause{table, p.assigned(set)})
			}
		}
	}
	return clauses
}

// target reads [ONLY] table; next is the token after it. No names: it is written in a way that is not read here.
func (p *parser) target(i int) (next int, names []string) {
	if p.keyword(i, "ONLY") {
		i++
	}
	for p.kind(i) == wordToken || p.kind(i) == quotedToken {
		name, err := identifier(p.word(i))
		if err != nil {
			return i, nil
		}
		names = append(names, name)
		i++
		if p.word(i) != "." {
			break
		}
		i++
	}
	return i, names
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
