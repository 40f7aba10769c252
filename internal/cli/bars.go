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

// What a line holds beside its message: the percentage, the bar, and a space behind each.
const (
	percentWidth = len("100.0 % ")
	widestBar    = 30
	leastBar     = 10
)

// bars shows a progress bar for each migration, redrawn in place.
type bars struct {
	w        io.Writer
	writer   progress.Writer
	trackers map[string]*progress.Tracker
	coloured bool
	room     int           // columns that a message may take; 0: any number
	drawn    chan struct{} // closed when nothing more is drawn
}

func newBars(w io.Writer, coloured bool) *bars {
	b := &bars{w: w, writer: progress.NewWriter(), trackers: make(map[string]*progress.Tracker), coloured: coloured, drawn: make(chan struct{})}
	b.writer.SetOutputWriter(w)
	b.writer.SetTrackerPosition(progress.PositionLeft)
	b.writer.SetUpdateFrequency(watchInterval / 4)
	bar := widestBar
	if columns := width(w); columns > 0 {
		bar = min(widestBar, max(leastBar, columns/8)) // what is said matters more
		b.room = columns - percentWidth - bar - len(" ")
		b.writer.SetTerminalWidth(columns)
	}
	b.writer.SetTrackerLength(bar)
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
	if b.room > 0 {
		name = clip(name, b.room/2)
	}
	said := b.fitting(m, columnsOf(name+" "+status+"  "))
	if b.coloured {
		name = text.Bold.Sprint(name)
		if colour, ok := statusColours[status]; ok {
			status = colour.Sprint(status)
		}
	}
	return name + " " + status + "  " + said
}

// fitting says what a line still holds behind so many columns. Why a migration stands still matters
// more than where; where it goes, the rate and the time that is left matter more than the rows.
func (b *bars) fitting(m control.Migration, taken int) string {
	if why := asShownOn(b.w, visible(reason(m))); why != "" {
		if b.room == 0 {
			return clip(why, longText)
		}
		return clip(why, max(b.room-taken, leastWidth))
	}
	pace := rateOf(m)
	if left := leftOf(m); left != "" {
		pace = strings.TrimSpace(pace + "  " + left + " left")
	}
	for _, rows := range []string{rowsOf(m) + " rows  ", count(m.ProcessedRows) + " rows  "} {
		said := strings.TrimSpace(rows + pace)
		if b.room == 0 || taken+columnsOf(said) <= b.room {
			return said
		}
	}
	return pace
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
