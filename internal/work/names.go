package work

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// maxIdentifier is PostgreSQL's NAMEDATALEN less one, in bytes: it cuts longer names silently.
const maxIdentifier = 63

// maxWorkName keeps names readable in tables and within file systems' limits, in bytes.
const maxWorkName = 100

var (
	workName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	plainName = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)
)

// WriteName writes a name's parts as SQL, each in quotes only where it needs them: public.users, "Odd Name".t.
func WriteName(parts ...string) string {
	written := make([]string, len(parts))
	for i, part := range parts {
		written[i] = part
		if !plainName.MatchString(part) || reservedWords[part] {
			written[i] = pgx.Identifier{part}.Sanitize()
		}
	}
	return strings.Join(written, ".")
}

// WriteNames writes a list of names as a header does: tenant_id, "Id".
func WriteNames(names []string) string {
	written := make([]string, len(names))
	for i, name := range names {
		written[i] = WriteName(name)
	}
	return strings.Join(written, ", ")
}

// TableName returns the work's table as [schema, table] or [table], unquoted and case-folded as SQL would.
func (w *Work) TableName() ([]string, error) {
	names, err := readNames(w.Table, ".")
	if err == nil && len(names) > 2 {
		err = errors.New("it has more than two parts; write schema.table, without a database")
	}
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", w.Table, err)
	}
	return names, nil
}

// checkWorkName refuses what cannot be a file's name on every system or would confuse a shell.
func checkWorkName(name string) error {
	if len(name) > maxWorkName || !workName.MatchString(name) {
		return fmt.Errorf("%q is no name for a work; use letters, digits, _, - and ., begin with a letter or a digit, "+
			"and use at most %d bytes", name, maxWorkName)
	}
	return nil
}

// readNames reads identifiers that the separator divides, written as in SQL.
func readNames(text, separator string) ([]string, error) {
	tokens, err := lex(text)
	if err != nil {
		return nil, err
	}
	var names []string
	expectName := true
	for _, t := range tokens {
		piece := text[t.start:t.end]
		switch {
		case t.kind == spaceToken:
		case expectName && (t.kind == wordToken || t.kind == quotedToken):
			name, err := identifier(piece)
			if err != nil {
				return nil, err
			}
			names = append(names, name)
			expectName = false
		case !expectName && piece == separator:
			expectName = true
		case expectName:
			return nil, fmt.Errorf("found %s where a name should be; quote odd names as in SQL", piece)
		default:
			return nil, fmt.Errorf("found %s after %s; separate names by %q and quote odd ones as in SQL", piece, WriteName(names[len(names)-1]), separator)
		}
	}
	if expectName {
		return nil, errors.New("a name is missing at the end")
	}
	return names, nil
}

// identifier returns the name that a word or a quoted name stands for.
func identifier(text string) (string, error) {
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return "", fmt.Errorf("the name %q is not UTF-8 text", text)
	}
	name := foldCase(text)
	if strings.HasPrefix(text, `"`) {
		name = strings.ReplaceAll(text[1:len(text)-1], `""`, `"`)
	}
	switch {
	case name == "":
		return "", errors.New(`"" is no name`)
	case len(name) > maxIdentifier:
		return "", fmt.Errorf("the name %s has more than %d bytes; PostgreSQL would cut it", text, maxIdentifier)
	}
	return name, nil
}

// checkSearchPath refuses names twice, and the schema of temporary tables, which only comes last.
func checkSearchPath(names []string) error {
	if name, repeated := firstRepeated(names); repeated {
		return fmt.Errorf("search_path names %s twice; name each schema once", WriteName(name))
	}
	for _, name := range names {
		if strings.HasPrefix(name, "pg_temp") {
			return fmt.Errorf("search_path names %s; leave it out: temporary tables are searched last", WriteName(name))
		}
	}
	return nil
}

// foldCase lowers ASCII letters only, as PostgreSQL does in UTF-8.
func foldCase(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, name)
}

// firstRepeated returns the first name that stands twice in the list.
func firstRepeated(names []string) (string, bool) {
	seen := make(map[string]bool, len(names))
	for _, name := range names {
		if seen[name] {
			return name, true
		}
		seen[name] = true
	}
	return "", false
}
