package cli

import (
	"io"
	"regexp"
)

// canonicalName is how messages call this program, wherever they are written: in any package, and
// in the database.
const canonicalName = "bbm-runner"

// ownName is an output on which hints name the program as the user calls it, where that is not the
// canonical name: a program of one's own with works in Go (bbm.Main) says "own-runner status",
// which can be typed. Only the name before one of the commands is rewritten, so that the product
// may be named.
type ownName struct {
	io.Writer
	name     string
	commands map[string]bool
}

var hintedCommand = regexp.MustCompile(`\b` + canonicalName + ` [a-z]+`)

func (o *ownName) Write(p []byte) (int, error) {
	if _, err := io.WriteString(o.Writer, o.rewrite(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (o *ownName) rewrite(text string) string {
	return hintedCommand.ReplaceAllStringFunc(text, func(hint string) string {
		if command := hint[len(canonicalName)+1:]; o.commands[command] {
			return o.name + " " + command
		}
		return hint
	})
}

// Fd is that of the terminal or file behind it.
func (o *ownName) Fd() uintptr {
	if file, ok := o.Writer.(interface{ Fd() uintptr }); ok {
		return file.Fd()
	}
	return ^uintptr(0)
}

// asShownOn is a text as it comes out on w, for those who have to know its width.
func asShownOn(w io.Writer, text string) string {
	if own, ok := w.(*ownName); ok {
		return own.rewrite(text)
	}
	return text
}

// callByOwnName puts such outputs in place. To be called before the commands are made, which keep
// the outputs that they find; it returns what is told the commands.
func (p *Program) callByOwnName() (commands map[string]bool) {
	commands = make(map[string]bool)
	if p.Name != canonicalName {
		p.Stdout = &ownName{p.Stdout, p.Name, commands}
		p.Stderr = &ownName{p.Stderr, p.Name, commands}
	}
	return commands
}
