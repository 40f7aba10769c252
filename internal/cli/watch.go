package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"time"

	"github.com/bbm-runner/bbm-runner/internal/control"
)

// watchInterval is how often a watched migration is looked at: a person reads no faster, and a look is one short query.
const watchInterval = time.Second

// watch shows migrations until none of them can proceed. Without names those count that are unfinished at some time.
func (a *app) watch(ctx context.Context, c *control.Control, names []string, asJSON bool) error {
	view := a.newView(asJSON)
	defer view.close()
	watched := make(map[string]bool)
	for {
		migrations, err := c.Status(ctx, names...)
		if ctx.Err() != nil {
			return nil // Ctrl-C is how one leaves
		}
		if err != nil {
			return err
		}
		migrations = slices.DeleteFunc(migrations, func(m control.Migration) bool {
			watched[m.Name] = watched[m.Name] || canProceed(m) || len(names) > 0
			return !watched[m.Name]
		})
		if len(migrations) == 0 {
			fmt.Fprintln(a.Stderr, "nothing to watch: no migration is unfinished")
			return nil
		}
		view.show(migrations)
		if !slices.ContainsFunc(migrations, canProceed) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchInterval):
		}
	}
}

// view shows the present state of migrations, again and again.
type view interface {
	show(migrations []control.Migration)
	close()
}

func (a *app) newView(asJSON bool) view {
	switch {
	case a.isQuiet:
		return quietView{}
	case asJSON:
		return &jsonView{w: a.Stdout}
	case a.isLive(a.Stdout):
		return newBars(a.Stdout, a.isColoured(a.Stdout))
	}
	return &lineView{w: a.Stdout, last: make(map[string]string)}
}

// quietView shows nothing.
type quietView struct{}

func (quietView) show([]control.Migration) {}
func (quietView) close()                   {}

// lineStep is the progress that is worth a line in a pipe, in percent: a log holds ten of them for
// a migration of a minute as for one of a week.
const lineStep = 10

// lineView prints a line when a migration's status or reason changes, or its progress by a step. A
// reason whose numbers alone change, such as the time of the next attempt, is the same reason.
type lineView struct {
	w    io.Writer
	last map[string]string
}

var numbers = regexp.MustCompile(`[0-9]+`)

func (v *lineView) show(migrations []control.Migration) {
	for _, m := range migrations {
		state := fmt.Sprintf("%s %d %s", m.Status, int(m.Progress*100)/lineStep, numbers.ReplaceAllString(reason(m), "N"))
		if m.Verification != nil {
			state += fmt.Sprintf(" %d %d", m.Verification.Pass, int(m.Verification.Progress*100)/lineStep)
		}
		if v.last[m.Name] == state {
			continue
		}
		v.last[m.Name] = state
		fmt.Fprintf(v.w, "%s %s\n", visible(m.Name), visible(summary(m)))
	}
}

func (v *lineView) close() {}

// jsonView prints an array in one line when anything in it changes.
type jsonView struct {
	w    io.Writer
	last []byte
}

func (v *jsonView) show(migrations []control.Migration) {
	line, err := json.Marshal(migrations)
	if err != nil || bytes.Equal(line, v.last) {
		return
	}
	v.last = line
	fmt.Fprintf(v.w, "%s\n", visibleJSON(line))
}

func (v *jsonView) close() {}

// summary is a migration in a few words: running 45.2 %, 452,000 of ~1,000,000 rows, 3,400/s, 2m41s left.
func summary(m control.Migration) string {
	text := fmt.Sprintf("%s %s, %s rows", m.Status, percent(m.Progress), rowsOf(m))
	if rate := rateOf(m); rate != "" {
		text += ", " + rate
	}
	if left := leftOf(m); left != "" {
		text += ", " + left + " left"
	}
	if why := reason(m); why != "" {
		text += ": " + why
	}
	return text
}
