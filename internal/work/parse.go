package work

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// extension is that of a work file; its name without it is the work's.
const extension = ".sql"

// LoadDir reads every work file (*.sql) of a folder, sorted by name; files whose name begins with a dot are left alone, as editors write
// them. When files are broken the error is a [*DirError] that lists all of them, and the works are those that are not.
func LoadDir(dir string) ([]*Work, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read the works folder: %w", err)
	}
	var works []*Work
	var broken []*BrokenWork
	for _, entry := range entries {
		name := entry.Name()
		if entry.IsDir() || filepath.Ext(name) != extension || strings.HasPrefix(name, ".") {
			continue
		}
		w, err := ParseFile(filepath.Join(dir, name))
		if err != nil {
			broken = append(broken, &BrokenWork{strings.TrimSuffix(name, extension), err})
			continue
		}
		works = append(works, w)
	}
	if broken != nil {
		return works, &DirError{broken}
	}
	return works, nil
}

// ParseFile reads one work file. A mistake in it is a [*ParseError].
func ParseFile(path string) (*Work, error) {
	src, err := readWorkFile(path)
	if err != nil {
		return nil, err
	}
	w, err := parse(strings.TrimSuffix(filepath.Base(path), extension), path, src)
	if err != nil {
		return nil, err
	}
	w.Path = path
	return w, nil
}

// maxWorkFile is far above what a statement can need, in bytes.
const maxWorkFile = 1 << 20

// readWorkFile refuses what is no file, or none that somebody has written: a pipe would never end, and another's dump would fill the memory.
func readWorkFile(path string) ([]byte, error) {
	info, err := os.Stat(path) // of what a link leads to, as where a deployment tool mounts files
	switch {
	case err != nil:
		return nil, fmt.Errorf("read work file: %w", err)
	case !info.Mode().IsRegular():
		return nil, &ParseError{File: path, Msg: "it is no plain file; a work file is a text"}
	case info.Size() > maxWorkFile:
		return nil, &ParseError{File: path, Msg: fmt.Sprintf("it has %d bytes; a work file has at most %d", info.Size(), maxWorkFile)}
	}
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read work file: %w", err)
	}
	return src, nil
}

// Parse reads a work from a text in the form of a work file. A mistake in it is a [*ParseError].
func Parse(name string, src []byte) (*Work, error) {
	return parse(name, name, src)
}

func parse(name, file string, src []byte) (*Work, error) {
	if err := checkWorkName(name); err != nil {
		return nil, &ParseError{File: file, Msg: err.Error()}
	}
	text, err := readText(file, src)
	if err != nil {
		return nil, err
	}
	f := &fileParser{source: source{file, text, 1}, work: &Work{Name: name}, seen: map[string]int{}}
	statement, err := f.readHeaders()
	if err != nil {
		return nil, err
	}
	if err := f.checkHeaders(statement.line - 1); err != nil {
		return nil, err
	}
	if err := f.checkBelowMarker(statement); err != nil {
		return nil, err
	}
	if f.work.statement, err = compile(statement, f.work, true); err != nil {
		return nil, err
	}
	return f.work, nil
}

// readText makes one text of what editors on any system write: without a byte order mark, lines ended by \n.
func readText(file string, src []byte) (string, error) {
	src = bytes.TrimPrefix(src, []byte("\ufeff"))
	text := strings.ReplaceAll(string(src), "\r\n", "\n")
	s := source{file, text, 1}
	for i, r := range text {
		if _, size := utf8.DecodeRuneInString(text[i:]); r == utf8.RuneError && size == 1 {
			return "", s.errorAt(i, "byte %#x is not UTF-8; save the file as UTF-8", text[i])
		}
		if r == 0 {
			return "", s.errorAt(i, "a NUL byte; save the file as plain UTF-8 text")
		}
	}
	return text, nil
}

// fileParser reads the headers of a work file.
type fileParser struct {
	source
	work *Work
	seen map[string]int // the line of each key, its last
}

// readHeaders reads up to the marker and returns what stands below it.
func (f *fileParser) readHeaders() (source, error) {
	rest, line := f.text, 1
	for rest != "" {
		var current string
		current, rest, _ = strings.Cut(rest, "\n")
		current = strings.TrimSpace(current)
		if current == marker {
			return source{f.file, rest, line + 1}, nil
		}
		if err := f.readLine(current, line); err != nil {
			return source{}, &ParseError{f.file, line, err.Error()}
		}
		line++
	}
	return source{}, &ParseError{f.file, max(1, line-1),
		fmt.Sprintf("%q is missing; put it on a line of its own, between the headers and the statement", marker)}
}

// readLine reads one line above the marker.
func (f *fileParser) readLine(text string, line int) error {
	// A carriage return alone ends a comment for PostgreSQL, but no line for most editors; the others belong into no name or type.
	isControl := func(r rune) bool { return unicode.IsControl(r) && r != '\t' }
	if at := strings.IndexFunc(text, isControl); at >= 0 {
		r, _ := utf8.DecodeRuneInString(text[at:])
		return fmt.Errorf("the control character %q stands in a header; take it out, and end lines with \\n", r)
	}
	switch {
	case text == "" || text == "--":
		return nil
	case strings.HasPrefix(text, "--") && strings.HasPrefix(strings.TrimLeft(text, "- \t"), "+"):
		return fmt.Errorf("%q is no marker; write %q", text, marker)
	case !strings.HasPrefix(text, "--"):
		return fmt.Errorf("the statement begins here, but %q does not stand above it; put it on a line of its own, below the headers", marker)
	}
	match := headerLine.FindStringSubmatch(text)
	if match == nil {
		return fmt.Errorf("%q is no header; write -- key: value (comments go below %q)", text, marker)
	}
	key, value := match[1], strings.TrimSpace(match[2])
	at := slices.IndexFunc(headers, func(h header) bool { return h.key == key })
	if at < 0 {
		return errors.New(unknownHeader(key))
	}
	h := headers[at]
	if first := f.seen[key]; first > 0 && !h.repeatable {
		return fmt.Errorf("header %q stands in line %d already; keep one", key, first)
	}
	f.seen[key] = line
	if value == "" {
		return fmt.Errorf("header %q is empty; write -- %s: %s", key, key, h.example)
	}
	return h.read(f.work, value)
}

// checkHeaders judges the headers as a whole.
func (f *fileParser) checkHeaders(markerLine int) error {
	for _, h := range headers {
		if h.required && f.seen[h.key] == 0 {
			return &ParseError{f.file, markerLine, fmt.Sprintf("header %q is missing; add -- %s: %s above this line", h.key, h.key, h.example)}
		}
	}
	if err := f.work.checkSizes(); err != nil {
		return &ParseError{f.file, f.seen["sub_batch_size"], err.Error()}
	}
	if err := f.work.checkSchema(); err != nil {
		return &ParseError{f.file, f.seen["table"], err.Error()}
	}
	f.work.scopeLine = f.seen["scope"]
	if err := f.work.scopeCondition().check(); err != nil {
		return &ParseError{f.file, f.work.scopeLine, err.Error()}
	}
	f.work.remainingLine = f.seen["remaining"]
	if err := f.work.remainingCondition().check(); err != nil {
		return &ParseError{f.file, f.work.remainingLine, err.Error()}
	}
	return nil
}

// checkBelowMarker refuses headers and a second marker below the marker, where they would be mere comments.
func (f *fileParser) checkBelowMarker(statement source) error {
	tokens, err := lex(statement.text)
	if err != nil {
		return nil // compile reports it
	}
	for _, t := range tokens {
		text := strings.TrimSpace(statement.text[t.start:t.end])
		lineStart := strings.LastIndexByte(statement.text[:t.start], '\n') + 1
		if t.kind != commentToken || strings.TrimSpace(statement.text[lineStart:t.start]) != "" {
			continue
		}
		if text == marker {
			return statement.errorAt(t.start, "a second %q; a file holds one work", marker)
		}
		if match := headerLine.FindStringSubmatch(text); match != nil && slices.Contains(headerKeys(), match[1]) {
			return statement.errorAt(t.start, "header %q stands below %q; move it above", match[1], marker)
		}
	}
	return nil
}
