package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWhatAScreenDoesNotShowIsWrittenAsAnEscape(t *testing.T) {
	t.Parallel()
	for written, shown := range map[string]string{
		"plain é 日本 👍 \u05d0":         "plain é 日本 👍 \u05d0",
		`a\n"b"`:                      `a\n"b"`,
		"a\nb\t\r\"":                  `a\nb\t\r"`,
		"\x1b[31mred\x1b[0m":          `\x1b[31mred\x1b[0m`,
		"\u009b31m\u0085\x7f":         `\u009b31m\u0085\x7f`,
		"\u202egpj.exe\u2066\u200f":   `\u202egpj.exe\u2066\u200f`,
		"zero\u200bwidth\ufeff\u00ad": `zero\u200bwidth\ufeff\u00ad`,
		"line\u2028paragraph\u2029":   `line\u2028paragraph\u2029`,
		"a\u00a0b":                    `a\u00a0b`,
		"\xff\xfe\uFFFD":              `\xff\xfe` + "\uFFFD",
		"\U000e0041tag":               `\U000e0041tag`,
		"'":                           "'",
	} {
		assert.Equal(t, shown, visible(written), "%q", written)
	}
}

func TestTextsOfSeveralLinesKeepTheirLines(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	_, err := visibleLines{&out}.Write([]byte("a\n\tb\x1b\u202e\n"))
	require.NoError(t, err)
	assert.Equal(t, "a\n\tb\\x1b\\u202e\n", out.String())
}

func TestJSONIsVisibleAndMeansTheSame(t *testing.T) {
	t.Parallel()
	given := []string{"plain", "\x1b\u009b\x7f\u202e\ufeff\U000e0041 é 日本 👍\n\"\\"}
	plain, err := json.Marshal(given)
	require.NoError(t, err)
	encoded := visibleJSON(plain)
	assert.Equal(t, visible(string(encoded)), string(encoded))
	var back []string
	require.NoError(t, json.Unmarshal(encoded, &back))
	assert.Equal(t, given, back)
}

func TestColumnsAreAlignedWhateverTheyHold(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := newColumns(&out, []string{"NAME", "X"})
	c.print([][]string{{"日本語", "1"}, {"e\u0301", "2"}, {"\x1b[2J\u202e", "3"}, {"👍", "4"}})
	for line := range strings.Lines(out.String()) {
		before, _, _ := strings.Cut(strings.TrimRight(line, "X1234\n"), "\n")
		assert.Equal(t, len(`\x1b[2J\u202e`)+2, columnsOf(before), "%q", line)
	}
}
