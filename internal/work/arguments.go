package work

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/bbm-runner/bbm-runner/internal/nearest"
)

// Argument is a value that a work takes at enqueue.
type Argument struct {
	Name string
	Type string // as written in the header: text, numeric(10,2), int[]
}

// Arguments are the values given at enqueue, in text form; nil is SQL's NULL.
type Arguments map[string]*string

// Get returns an argument's text form; false where it is NULL or not given.
func (a Arguments) Get(name string) (string, bool) {
	value := a[name]
	if value == nil {
		return "", false
	}
	return *value, true
}

// ReadArguments reads a JSON object, as the arguments column stores it. Strings are taken as they are, null is SQL's NULL, and everything
// else keeps its JSON text, which PostgreSQL reads as a number, a boolean or JSON.
func ReadArguments(object []byte) (Arguments, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(object, &raw); err != nil {
		return nil, fmt.Errorf("read arguments: %w", err)
	}
	arguments := make(Arguments, len(raw))
	for name, value := range raw {
		text := string(bytes.TrimSpace(value))
		switch {
		case text == "null":
			arguments[name] = nil
			continue
		case strings.HasPrefix(text, `"`):
			if err := json.Unmarshal(value, &text); err != nil {
				return nil, fmt.Errorf("read argument %q: %w", name, err)
			}
		}
		arguments[name] = &text
	}
	return arguments, nil
}

// CheckArguments returns an error that names every argument that is missing or unknown. Whether values fit their types only the
// server knows: see [Statements.ArgumentCheck].
func (w *Work) CheckArguments(given Arguments) error {
	var problems []string
	declared := w.argumentNames()
	for _, argument := range w.Arguments {
		if _, ok := given[argument.Name]; !ok {
			problems = append(problems, fmt.Sprintf(`argument %q (%s) is missing: give --arg %[1]s=VALUE, or in SQL arguments => '{%[1]q: "VALUE"}'`, argument.Name, argument.Type))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		switch near := nearest.Word(name, declared); {
		case slices.Contains(declared, name):
		case near != "":
			problems = append(problems, fmt.Sprintf("unknown argument %q; did you mean %q?", name, near))
		default:
			problems = append(problems, fmt.Sprintf("unknown argument %q; work %s %s", name, w.Name, takes(declared)))
		}
	}
	if problems != nil {
		return errors.New(strings.Join(problems, "; "))
	}
	return nil
}

func (w *Work) argumentNames() []string {
	names := make([]string, len(w.Arguments))
	for i, argument := range w.Arguments {
		names[i] = argument.Name
	}
	return names
}

// takes ends the sentence "the work …".
func takes(declared []string) string {
	if len(declared) == 0 {
		return "takes no arguments"
	}
	return "takes " + strings.Join(declared, ", ")
}

// A type's name is written into SQL, so its shape is a short list: what the grammar spells in several words, and one name, perhaps with
// a schema; then a modifier and brackets.
var (
	argumentType = regexp.MustCompile(`^(?:` +
		`(?:double precision|(?:character|bit) varying(?: ?\( ?[0-9]+ ?\))?|` +
		`(?:time|timestamp)(?: ?\( ?[0-9]+ ?\))? with(?:out)? time zone)` +
		`|(?:` + typeName + `\.)?` + typeName + `(?: ?\( ?-?[0-9]+(?: ?, ?-?[0-9]+)? ?\))?` +
		`)(?: ?\[[0-9]*\])*$`)
	cuttingType = regexp.MustCompile(`^(?:(?:bit|char|nchar|character)\b(?: ?\[| ?\(|$)|(?:varchar|bpchar|varbit|(?:character|bit) varying) ?\()`)
)

const typeName = `(?:[a-z_][a-z0-9_]*|"[^"\x00]+")`

// checkArgumentType refuses types whose text could be anything else than a type, and those whose cast cuts a value silently.
func checkArgumentType(written string) error {
	folded := strings.Join(strings.Fields(foldUnquoted(written)), " ")
	switch {
	case !argumentType.MatchString(folded):
		return fmt.Errorf("%q is no type; write it as in SQL: text, bigint, numeric(10,2), timestamp with time zone, int[], schema.type", written)
	case cuttingType.MatchString(folded):
		return fmt.Errorf("a value cast to %s is cut without an error; use text, or varbit for bits", written)
	}
	return nil
}

// foldUnquoted lowers what stands outside of double quotes.
func foldUnquoted(text string) string {
	parts := strings.Split(text, `"`)
	for i := 0; i < len(parts); i += 2 {
		parts[i] = foldCase(parts[i])
	}
	return strings.Join(parts, `"`)
}
