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
	// What it quotes of the statement may have line breaks.
	message := strings.NewReplacer("\r\n", " ", "\n", " ", "\r", " ").Replace(e.Msg)
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, message)
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, message)
}

// BrokenWork is a mistake in one work, which keeps that work from being used and no other.
type BrokenWork struct {
	Name string
	Err  error
}

func (e *BrokenWork) Error() string { return e.Err.Error() }
func (e *BrokenWork) Unwrap() error { return e.Err }

// DirError is returned by [LoadDir] and [NewRegistry] when works are broken; it holds one error for each.
type DirError struct {
	Works []*BrokenWork
}

// Error has one line for each broken work.
func (e *DirError) Error() string {
	lines := make([]string, len(e.Works))
	for i, err := range e.Works {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Names are those of the broken works; none of a nil error.
func (e *DirError) Names() []string {
	if e == nil {
		return nil
	}
	names := make([]string, len(e.Works))
	for i, w := range e.Works {
		names[i] = w.Name
	}
	return names
}

func (e *DirError) Unwrap() []error {
	errs := make([]error, len(e.Works))
	for i, err := range e.Works {
		errs[i] = err
	}
	return errs
}

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
