package cli

import (
	"io"
	"log/slog"

	"github.com/bbm-runner/bbm-runner/internal/config"
)

// newLogger writes the log of a runner: for a person on a terminal, as JSON for everything that collects logs.
func newLogger(w io.Writer, c *config.Config) *slog.Logger {
	asJSON := c.LogFormat == "json" || c.LogFormat == "auto" && !isTerminal(w)
	options := &slog.HandlerOptions{Level: c.LogLevel, ReplaceAttr: func(groups []string, attr slog.Attr) slog.Attr {
		switch {
		case attr.Value.Kind() == slog.KindDuration:
			attr.Value = slog.StringValue(attr.Value.Duration().String()) // JSON would have bare nanoseconds
		case !asJSON && len(groups) == 0 && attr.Key == slog.TimeKey:
			attr.Value = slog.StringValue(attr.Value.Time().Format("15:04:05.000")) // a person knows the day
		}
		return attr
	}}
	if asJSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
