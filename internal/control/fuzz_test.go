package control

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// FuzzMigrationName proves that a name that is taken can be stored, typed again and told apart on a screen, and that the refusal of any other is one
// line that a terminal shows as it is.
func FuzzMigrationName(f *testing.F) {
	f.Fuzz(func(t *testing.T, name string) {
		err := checkName(name)
		if err != nil {
			if text := err.Error(); strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Fatalf("the refusal of %q is not printable: %q", name, text)
			}
			return
		}
		switch hidden := strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }); {
		case !utf8.ValidString(name) || hidden:
			t.Fatalf("%q is taken, though a screen does not show it", name)
		case name == "" || utf8.RuneCountInString(name) > maxName || name != strings.TrimSpace(name):
			t.Fatalf("%q is taken, though it is no length or has spaces at its ends", name)
		}
	})
}
