package work

// Blame makes the server's error about a text of [Statements.Work] one about the work file's line: a [*DefinitionError] when the statement is
// at fault and trying again does not help, else the error with what was attempted. skipped is how many characters were put before the text.
func (w *Work) Blame(err error, sql string, skipped int, attempted string) error {
	return check{work: w}.blame(err, sql, skipped, attempted)
}
