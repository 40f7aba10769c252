package cli

import (
	"io"
	"slices"

	"golang.org/x/term"
)

// isTerminal reports whether a person reads what is written to w.
func isTerminal(w io.Writer) bool {
	file, ok := w.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(file.Fd()))
}

// isLive reports whether lines on w may be drawn over: a dumb terminal cannot.
func (a *app) isLive(w io.Writer) bool {
	return isTerminal(w) && !slices.Contains(a.Environ, "TERM=dumb")
}

// isColoured follows https://no-color.org: any value of NO_COLOR but the empty one turns colours off.
func (a *app) isColoured(w io.Writer) bool {
	return a.isLive(w) && !slices.ContainsFunc(a.Environ, func(variable string) bool {
		return len(variable) > len("NO_COLOR=") && variable[:len("NO_COLOR=")] == "NO_COLOR="
	})
}

// width returns the columns of the terminal behind w, or 0 where there is none.
func width(w io.Writer) int {
	if file, ok := w.(interface{ Fd() uintptr }); ok {
		if columns, _, err := term.GetSize(int(file.Fd())); err == nil {
			return columns
		}
	}
	return 0
}
