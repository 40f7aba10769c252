package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"github.com/bbm-runner/bbm-runner/internal/nearest"

	parser "github.com/knadh/koanf/parsers/yaml"
	"go.yaml.in/yaml/v3"
)

// readFile reads the YAML file that origin names. A key without a value counts as not set.
func readFile(path, origin string) (layer, error) {
	content, err := readLimited(path)
	if err != nil {
		var failed *fs.PathError
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return layer{}, inputErrorf("%s: the configuration file %q cannot be read: %s", origin, path, err)
	}
	values, err := parser.Parser().Unmarshal(content)
	if err != nil {
		return layer{}, inputErrorf("%s: %s", path, yamlReason(err))
	}
	lines := keyLines(content)
	at := func(name string) string { return fmt.Sprintf("%s:%d", path, lines[name]) }
	for name, value := range values {
		s, known := find(name)
		switch {
		case !known:
			return layer{}, inputErrorf("%s: %s", at(name), unknownKey(name))
		case value == nil:
			delete(values, name)
		case !isScalar(value):
			return layer{}, inputErrorf("%s: %s holds a list or a mapping; give one value", at(name), s.name)
		}
	}
	return layer{values, at}, nil
}

// longestFile is far above what settings can need.
const longestFile = 1 << 20

// readLimited reads a file, or a pipe, that might never end.
func readLimited(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.LimitReader(file, longestFile+1))
	if err == nil && len(content) > longestFile {
		err = errors.New("it is larger than 1 MB; settings are not")
	}
	return content, err
}

func find(name string) (setting, bool) {
	for _, s := range settings {
		if s.name == name {
			return s, true
		}
	}
	return setting{}, false
}

func unknownKey(name string) string {
	names := make([]string, len(settings))
	for i, s := range settings {
		names[i] = s.name
	}
	switch near := nearest.Word(strings.ToLower(name), names); {
	case name == fileSetting:
		return `"config" cannot stand in the file that it names; give --config or BBM_CONFIG`
	case near != "":
		return fmt.Sprintf("unknown key %s; did you mean %q?", shown(name, false), near)
	}
	return fmt.Sprintf("unknown key %s; use one of %s", shown(name, false), strings.Join(names, ", "))
}

func isScalar(value any) bool {
	switch value.(type) {
	case map[string]any, map[any]any, []any:
		return false
	}
	return true
}

// keyLines returns the line of each key; the parser has read the content without an error before.
func keyLines(content []byte) map[string]int {
	lines := make(map[string]int)
	var document yaml.Node
	if yaml.Unmarshal(content, &document) != nil || len(document.Content) == 0 {
		return lines
	}
	// A mapping's node holds keys and values in turn.
	pairs := document.Content[0].Content
	for i := 0; i+1 < len(pairs); i += 2 {
		lines[pairs[i].Value] = pairs[i].Line
	}
	return lines
}

// quotedInReason is what the parser quotes of the file.
var quotedInReason = regexp.MustCompile("(?s)\"[^\"]*\"|'[^']*'|`[^`]*`")

// yamlReason is the parser's message in one line. What it quotes of the file is left out where it may be a secret: all but the settings' own names.
func yamlReason(err error) string {
	var wrongType *yaml.TypeError
	if errors.As(err, &wrongType) && len(wrongType.Errors) > 0 {
		reason := wrongType.Errors[0]
		if strings.Contains(reason, "cannot unmarshal") {
			return "it is no list of settings; write one a line, as in works_dir: works"
		}
		return withoutQuotes(reason)
	}
	return withoutQuotes(strings.TrimPrefix(err.Error(), "yaml: "))
}

func withoutQuotes(reason string) string {
	reason = quotedInReason.ReplaceAllStringFunc(reason, func(quoted string) string {
		if _, known := find(quoted[1 : len(quoted)-1]); known {
			return quoted
		}
		return "…"
	})
	return strings.Join(strings.Fields(strings.ToValidUTF8(reason, "\uFFFD")), " ")
}
