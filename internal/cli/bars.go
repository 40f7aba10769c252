package cli

import (
	"io"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/bbm-runner/bbm-runner/internal/control"
)

// barTotal makes a bar move in steps of a tenth of a percent.
const barTotal = 1000

// bars shows a progress bar for each migration, redrawn in place.
type bars struct {
	writer   progress.Writer
	trackers map[string]*progress.Tracker
	coloured bool
	drawn    chan struct{} // closed when nothing more is drawn
}

func newBars(w io.Writer, coloured bool) *bars {
	b := &bars{writer: progress.NewWriter(), trackers: make(map[string]*progress.Tracker), coloured: coloured, drawn: make(chan struct{})}
	b.writer.SetOutputWriter(w)
	b.writer.SetTrackerLength(30)
	b.writer.SetTrackerPosition(progress.PositionLeft)
	b.writer.SetUpdateFrequency(watchInterval / 4)
	if columns := width(w); columns > 0 {
		b.writer.SetTerminalWidth(columns)
	}
	style := b.writer.Style()
	style.Chars = progress.StyleCharsBlocks
	style.Options.PercentFormat = "%5.1f %%"
	style.Options.Separator = " "
	// Time, speed and what is left are in the message, as the database knows them: a bar knows only since when it is drawn.
	style.Visibility = progress.StyleVisibility{Percentage: true, Tracker: true}
	go func() {
		defer close(b.drawn)
		b.writer.Render()
	}()
	return b
}

func (b *bars) show(migrations []control.Migration) {
	for _, m := range migrations {
		tracker, known := b.trackers[m.Name]
		if !known {
			// Never done by itself: a failed migration may be retried while one watches.
			tracker = &progress.Tracker{Total: barTotal, AutoStopDisabled: true}
		}
		tracker.UpdateMessage(b.message(m))
		tracker.SetValue(int64(m.Progress * barTotal))
		if !known {
			b.trackers[m.Name] = tracker
			b.writer.AppendTracker(tracker)
		}
	}
}

func (b *bars) message(m control.Migration) string {
	name, status := visible(m.Name), m.Status
	if b.coloured {
		name = text.Bold.Sprint(name)
		if colour, ok := statusColours[status]; ok {
			status = colour.Sprint(status)
		}
	}
	// A line holds little: why a migration stands still matters more than where.
	if why := reason(m); why != "" {
		return name + " " + status + "  " + clip(visible(why), longText)
	}
	parts := []string{name + " " + status, rowsOf(m) + " rows"}
	if rate := rateOf(m); rate != "" {
		parts = append(parts, rate)
	}
	if left := leftOf(m); left != "" {
		parts = append(parts, left+" left")
	}
	return strings.Join(parts, "  ")
}

// close draws the last state and gives the terminal back.
func (b *bars) close() {
	for {
		// A drawing that has not begun yet cannot be stopped, so it is told until it ends.
		b.writer.Stop()
		select {
		case <-b.drawn:
			return
		case <-time.After(time.Millisecond):
		}
	}
}
