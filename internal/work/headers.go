package work

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/bbm-runner/bbm-runner/internal/nearest"
)

// marker divides the headers from the statement.
const marker = "-- +bbm Work"

// header is one key of a work file.
type header struct {
	key        string
	required   bool
	repeatable bool
	example    string // completes "-- key: "
	read       func(w *Work, value string) error
}

// headers are all keys that a work file may have.
var headers = []header{
	{key: "description", required: true, example: "what changes, and why", read: readDescription},
	{key: "table", required: true, example: "public.users", read: readTable},
	{key: "cursor", required: true, example: "id", read: readCursor},
	{key: "scope", example: "email_lower IS NULL", read: readScope},
	{key: "remaining", example: "email_lower IS NULL", read: readRemaining},
	{key: "search_path", example: "public", read: readSearchPath},
	{key: "timezone", example: "Europe/Berlin", read: readTimeZone},
	{key: "batch_size", example: "50000", read: readBatchSize},
	{key: "sub_batch_size", example: "1000", read: readSubBatchSize},
	{key: "repeated_keys", example: "yes", read: readRepeatedKeys},
	{key: "argument", repeatable: true, example: "domain text", read: readArgument},
}

var (
	headerLine   = regexp.MustCompile(`^--[ \t]+([A-Za-z0-9_.-]+)[ \t]*:[ \t]*(.*)$`)
	argumentName = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)
	timeZone     = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_+\-/:]*$`)
)

// headerKeys lists the keys for suggestions.
func headerKeys() []string {
	names := make([]string, len(headers))
	for i, h := range headers {
		names[i] = h.key
	}
	return names
}

// unknownHeader is the error text for a key that does not exist.
func unknownHeader(key string) string {
	if near := nearest.Word(key, headerKeys()); near != "" {
		return fmt.Sprintf("unknown header %q; did you mean %q?", key, near)
	}
	return fmt.Sprintf("unknown header %q; use one of %s", key, strings.Join(headerKeys(), ", "))
}

func readDescription(w *Work, value string) error {
	w.Description = value
	return nil
}

func readTable(w *Work, value string) error {
	w.Table = value
	_, err := w.TableName()
	return err
}

func readCursor(w *Work, value string) (err error) {
	if w.Cursor, err = readNames(value, ","); err != nil {
		return fmt.Errorf("cursor %s: %w", value, err)
	}
	return checkCursor(w.Cursor)
}

func checkCursor(columns []string) error {
	if len(columns) == 0 || len(columns) > maxCursorColumns {
		return fmt.Errorf("the cursor has %d columns; give 1 to %d, those of a unique index", len(columns), maxCursorColumns)
	}
	if name, repeated := firstRepeated(columns); repeated {
		return fmt.Errorf("the cursor names column %s twice; name each once", WriteName(name))
	}
	return nil
}

func readScope(w *Work, value string) error {
	w.Scope = value
	return nil
}

func readRemaining(w *Work, value string) error {
	w.Remaining = value
	return nil
}

func readSearchPath(w *Work, value string) (err error) {
	if w.SearchPath, err = readNames(value, ","); err != nil {
		return fmt.Errorf("search_path %s: %w", value, err)
	}
	return checkSearchPath(w.SearchPath)
}

func readTimeZone(w *Work, value string) error {
	if !timeZone.MatchString(value) {
		return fmt.Errorf("%q is no time zone; give one by name, as in Europe/Berlin", value)
	}
	w.TimeZone = value
	return nil
}

func readBatchSize(w *Work, value string) (err error) {
	w.BatchSize, err = readSize("batch_size", value)
	return err
}

func readSubBatchSize(w *Work, value string) (err error) {
	w.SubBatchSize, err = readSize("sub_batch_size", value)
	return err
}

// readSize reads a number of rows, as an int4 column can hold it.
func readSize(key, value string) (int, error) {
	size, err := strconv.ParseInt(value, 10, 32)
	if err != nil || size < 1 || value[0] == '+' {
		return 0, fmt.Errorf("%s is %q; give a whole number of rows from 1 to %d, or leave the header out", key, value, maxSize)
	}
	return int(size), nil
}

func readRepeatedKeys(w *Work, value string) error {
	if value != "yes" && value != "no" {
		return fmt.Errorf("repeated_keys is %q; write yes or no", value)
	}
	w.RepeatedKeys = value == "yes"
	return nil
}

func readArgument(w *Work, value string) error {
	name, written, _ := strings.Cut(value, " ")
	argument := Argument{name, strings.TrimSpace(written)}
	if argument.Type == "" {
		return fmt.Errorf("argument %q has no type; write -- argument: %s text", name, name)
	}
	if err := checkArgument(argument); err != nil {
		return err
	}
	if slices.Contains(w.argumentNames(), name) {
		return fmt.Errorf("argument %q is declared twice; declare each once", name)
	}
	w.Arguments = append(w.Arguments, argument)
	return nil
}

func checkArgument(argument Argument) error {
	switch name := argument.Name; {
	case !argumentName.MatchString(name) || len(name) > maxIdentifier:
		return fmt.Errorf("%q is no name for an argument; use lower-case letters, digits and _, at most %d", name, maxIdentifier)
	case name == batchWord:
		return errors.New("no argument can be called batch, since @batch stands for the range; choose another name")
	}
	if err := checkArgumentType(argument.Type); err != nil {
		return fmt.Errorf("argument %q: %w", argument.Name, err)
	}
	return nil
}
