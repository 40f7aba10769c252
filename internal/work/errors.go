package work

import (
	"fmt"
	"strings"
)

// ParseError is a mistake in a work file, or in the SQL that a Go work gives to [Batch.Exec]. Its message says what to do about it.
type ParseError struct {
	File string // as it was given; the work's name where there is no file
	Line int    // counted from 1; 0 where no line is to blame
	Msg  string
}

// Error is one line: `works/x.sql:4: unknown header "tabel"; did you mean "table"?`.
func (e *ParseError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Msg)
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Msg)
}

// DirError is returned by [LoadDir] and [NewRegistry] when works are broken; it holds one error for each.
type DirError struct {
	Errs []error
}

// Error has one line for each broken work.
func (e *DirError) Error() string {
	lines := make([]string, len(e.Errs))
	for i, err := range e.Errs {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

func (e *DirError) Unwrap() []error { return e.Errs }

// source is a text that errors point into.
type source struct {
	file string
	text string
	line int // of the text's first character; counted from 1
}

// errorAt is the error at that offset of the text.
func (s source) errorAt(offset int, format string, values ...any) *ParseError {
	return &ParseError{s.file, s.line + strings.Count(s.text[:offset], "\n"), fmt.Sprintf(format, values...)}
}

// nearest returns the candidate that needs the fewest edits to become word, or "" where none is near enough to be meant.
func nearest(word string, candidates []string) string {
	best, bestDistance := "", 2+len(word)/4
	for _, candidate := range candidates {
		if distance := editDistance(strings.ToLower(word), candidate); distance < bestDistance {
			best, bestDistance = candidate, distance
		}
	}
	return best
}

// editDistance is Levenshtein's distance in bytes, with a swap of two neighbours counted as one edit.
func editDistance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
