package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// canary is the password that no message may show.
const canary = "hunter2canary"

// FuzzConfig proves that no file and no environment makes the reading of settings panic, that every refusal is one line that says where, and that no
// refusal shows a password, wherever in a broken file the line that holds it has ended up.
func FuzzConfig(f *testing.F) {
	f.Fuzz(func(t *testing.T, above, secret, below, variable, value string) {
		path := filepath.Join(t.TempDir(), "bbm.yaml")
		// What is fuzzed could hold the password elsewhere, where only its writer knows that it is one.
		replace := strings.NewReplacer(canary, "", "\x00", "")
		above, below = replace.Replace(above), replace.Replace(below)
		secret = replace.Replace(secret)
		if strings.Contains(secret, "@") || strings.Contains(secret, "password") {
			// A connection string has a password behind one of these; the path of a certificate may be shown.
			secret = strings.ReplaceAll(secret, "PASSWORD", canary)
		}
		content := above + "\ndatabase_url: " + secret + "\n" + below
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, from := range []Sources{
			{Flags: map[string]string{"config": path}},
			{Flags: map[string]string{"config": path}, Environ: []string{"BBM_" + replace.Replace(variable) + "=" + replace.Replace(value)}},
			{Environ: []string{"BBM_CONFIG=" + path, "BBM_DATABASE_URL=" + secret, "BBM_SENTRY_DSN=" + secret}},
			{Environ: []string{"BBM_DATABASE_URL=" + secret}},
		} {
			c, err := Load(from)
			checkRefusal(t, content, err)
			if err != nil {
				continue
			}
			for _, warning := range c.Warnings {
				if strings.Contains(warning, canary) {
					t.Fatalf("a warning shows the password: %s", warning)
				}
			}
			_, err = c.ConnConfig()
			checkRefusal(t, content, err)
		}
	})
}

func checkRefusal(t *testing.T, content string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	text := err.Error()
	var refused *InputError
	switch {
	case !errors.As(err, &refused):
		t.Fatalf("%q: %T is no refusal of input: %v", content, err, err)
	case strings.Contains(text, canary):
		t.Fatalf("%q: the message shows the password: %s", content, text)
	case strings.ContainsAny(text, "\n\r") || !utf8.ValidString(text):
		t.Fatalf("%q: the message is not one line of text: %q", content, text)
	case !strings.Contains(text, "bbm.yaml") && !strings.Contains(text, "BBM_"):
		t.Fatalf("%q: the message does not say where: %s", content, text)
	}
}
