package work

// checkLocking refuses SKIP LOCKED, by which a batch would leave out rows that others hold, and
// count them as done. NOWAIT is an error that is tried again, as a lock timeout is.
func (p *parser) checkLocking() error {
	for i := range p.tokens {
		if at := p.behindLocking(i); at > 0 && p.keyword(at, "SKIP") && p.keyword(at+1, "LOCKED") {
			return p.errorAt(p.start(at), "SKIP LOCKED leaves out rows that somebody else holds, and the migration would finish without them; "+
				"write the clause without it: a sub-batch that has waited too long is tried again")
		}
	}
	return nil
}

// behindLocking returns where a locking clause that begins at i goes on behind its strength and its
// names; 0 where none begins there.
func (p *parser) behindLocking(i int) int {
	if !p.keyword(i, "FOR") {
		return 0
	}
	i++
	for p.keyword(i, "NO", "KEY") {
		i++
	}
	if !p.keyword(i, "UPDATE", "SHARE") {
		return 0
	}
	if i++; !p.keyword(i, "OF") {
		return i
	}
	for i += 2; p.word(i) == "." || p.word(i) == ","; i += 2 {
	}
	return i
}
