package cli

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/jedib0t/go-pretty/v6/text"
)

// Names, keys and messages hold what users and applications have written. A control character could tear a table or command the terminal, and a mark
// that turns the writing around could make one name look like another: whatever a screen does not show as itself is written as an escape, as in Go.

// visible writes one line so.
func visible(line string) string { return escaped(line, func(rune) bool { return false }) }

func escaped(written string, keep func(rune) bool) string {
	hidden := func(r rune) bool { return !unicode.IsPrint(r) && !keep(r) }
	if utf8.ValidString(written) && !strings.ContainsFunc(written, hidden) {
		return written
	}
	var out strings.Builder
	for i, r := range written {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(written[i:], "\uFFFD"):
			fmt.Fprintf(&out, `\x%02x`, written[i])
		case hidden(r):
			out.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		default:
			out.WriteRune(r)
		}
	}
	return out.String()
}

// visibleLines is where texts of several lines are printed, such as statements.
type visibleLines struct{ w io.Writer }

func (v visibleLines) Write(p []byte) (int, error) {
	shown := escaped(string(p), func(r rune) bool { return r == '\n' || r == '\t' })
	if _, err := io.WriteString(v.w, shown); err != nil {
		return 0, err
	}
	return len(p), nil
}

// lines is standard output for texts, as opposed to tables, bars and JSON.
func (a *app) lines() io.Writer { return visibleLines{a.Stdout} }

// columnsOf is how many columns of a terminal a visible text takes: a Chinese letter two, an accent that combines none.
func columnsOf(shown string) int { return text.StringWidthWithoutEscSequences(shown) }

// visibleJSON writes JSON so that what a screen does not show is escaped in it too; it means the same to a program. Outside of strings, only the line
// breaks of the layout are such.
func visibleJSON(encoded []byte) []byte {
	hidden := func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' }
	if !bytes.ContainsFunc(encoded, hidden) {
		return encoded
	}
	var out []byte
	for _, r := range string(encoded) {
		if !hidden(r) {
			out = utf8.AppendRune(out, r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			out = fmt.Appendf(out, `\u%04x`, unit)
		}
	}
	return out
}
