package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/bbm-runner/bbm-runner/internal/nearest"

	parser "github.com/knadh/koanf/parsers/yaml"
	"go.yaml.in/yaml/v3"
)

// readFile reads the YAML file that origin names. A key without a value counts as not set.
func readFile(path, origin string) (layer, error) {
	content, err := os.ReadFile(path)
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
		return fmt.Sprintf("unknown key %q; did you mean %q?", name, near)
	}
	return fmt.Sprintf("unknown key %q; use one of %s", name, strings.Join(names, ", "))
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

// yamlReason is the parser's message in one line. A message about a wrong type quotes the value, which may be a secret.
func yamlReason(err error) string {
	var wrongType *yaml.TypeError
	if errors.As(err, &wrongType) && len(wrongType.Errors) > 0 {
		reason := wrongType.Errors[0]
		if strings.Contains(reason, "cannot unmarshal") {
			return "it is no list of settings; write one a line, as in works_dir: works"
		}
		return reason
	}
	return strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\n", " "), "yaml: ")
}
