package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// count writes a number with a comma between thousands.
func count(n int64) string {
	digits := strconv.FormatInt(n, 10)
	var b strings.Builder
	for i, digit := range digits {
		if left := len(digits) - i; i > 0 && left%3 == 0 && digits[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(digit)
	}
	return b.String()
}

// percent writes a share of 1. It is rounded down, so that 100 % is said only of what is done.
func percent(share float64) string {
	return fmt.Sprintf("%.1f %%", math.Floor(share*1000)/10)
}

// perSecond writes a rate in rows a second.
func perSecond(rate float64) string {
	if rate < 10 {
		return fmt.Sprintf("%.1f/s", rate)
	}
	return count(int64(math.Round(rate))) + "/s"
}

// span writes how long something takes in its two largest units: 45s, 3m20s, 2h05m, 3d4h.
func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		d = d.Round(time.Minute)
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	d = d.Round(time.Hour)
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}

// seconds turns a number of seconds into a duration; an estimate beyond what a duration holds is its longest.
func seconds(n int64) time.Duration {
	return time.Duration(min(n, math.MaxInt64/int64(time.Second))) * time.Second
}

// instant writes a time as RFC 3339 in UTC, to the second.
func instant(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// optional writes what a pointer points to, or "" for nil.
func optional[T any](value *T, write func(T) string) string {
	if value == nil {
		return ""
	}
	return write(*value)
}

// clip shortens a text to that many characters, with an ellipsis where some are gone, and keeps it on one line.
func clip(text string, most int) string {
	runes := []rune(strings.Join(strings.Fields(text), " "))
	if len(runes) <= most || most < 1 {
		return string(runes)
	}
	return string(runes[:most-1]) + "…"
}

// longKey is how much of a key a line of a list or a message holds.
const longKey = 60

// longText is how much of a message a line of a list holds; --json has all of it.
const longText = 160
