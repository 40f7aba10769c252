package work

import "strings"

// allowedStatements change rows of one batch.
var allowedStatements = []string{"UPDATE", "INSERT", "DELETE", "MERGE", "WITH", "SELECT"}

// refusedStatements says what to do instead.
var refusedStatements = []struct {
	remedy string
	words  []string
}{
	{"each sub-batch runs in a transaction of its own, which the statement cannot steer; leave it out", []string{
		"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE", "PREPARE", "LOCK"}},
	{"put the code into a function and call it: SELECT f(u.id) FROM … AS u WHERE @batch(u)", []string{
		"DO", "CALL", "EXECUTE"}},
	{"change the schema in a schema migration; a work changes rows", []string{
		"CREATE", "ALTER", "DROP", "TRUNCATE", "GRANT", "REVOKE", "COMMENT", "REINDEX", "CLUSTER", "REFRESH", "IMPORT", "SECURITY"}},
	{"settings belong in headers (search_path, timezone)", []string{
		"SET", "RESET", "SHOW", "DISCARD"}},
	{"rows go from table to table with INSERT INTO … SELECT", []string{
		"COPY", "DECLARE", "FETCH", "MOVE"}},
}

// checkStatement makes sure that there is one statement, and one that may be run in batches. It drops the final semicolon.
func (p *parser) checkStatement() error {
	for i := range p.tokens {
		if p.word(i) != ";" {
			continue
		}
		for next := i + 1; next < len(p.tokens); next++ {
			if p.word(next) != ";" {
				return p.errorAt(p.start(next), "a second statement; a work is one statement, so write a work for each, or one WITH statement")
			}
		}
		p.tokens = p.tokens[:i]
		break
	}
	if len(p.tokens) == 0 {
		return p.errorAt(0, "the statement is missing; write it below %q", marker)
	}
	if p.keyword(0, allowedStatements...) {
		return nil
	}
	first := strings.ToUpper(p.word(0))
	for _, refused := range refusedStatements {
		if p.keyword(0, refused.words...) {
			return p.errorAt(p.start(0), "%s is no statement for a work; %s", first, refused.remedy)
		}
	}
	return p.errorAt(p.start(0), "%s begins no statement for a work; use one of %s", p.word(0), strings.Join(allowedStatements, ", "))
}
