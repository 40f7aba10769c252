package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/bbm-runner/bbm-runner/internal/control"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// printMigration shows one migration with all that an operator may ask about it, a label and a value a line.
func (a *app) printMigration(m control.Migration) {
	d := m.Details
	status := m.Status
	if colour, ok := statusColours[status]; ok && a.isColoured(a.Stdout) {
		status = colour.Sprint(status)
	}
	lines := [][2]string{
		{"status", status},
		{"why", reason(m)},
		{"progress", fmt.Sprintf("%s, %s rows, %s changed", percent(m.Progress), rowsOf(m), count(m.AffectedRows))},
		{"rate", rateOf(m)},
		{"left", leftOf(m)},
		{"jobs", fmt.Sprintf("%s succeeded, %s running, %s pending, %s failed",
			count(m.Jobs.Succeeded), count(m.Jobs.Running), count(m.Jobs.Pending), count(m.Jobs.Failed))},
		{"work", strings.TrimSpace(m.Work + "  " + optional(d.Checksum, verbatim))},
		{"arguments", string(d.Arguments)},
		{"table", m.Table},
		{"cursor", work.WriteNames(d.Cursor)},
		{"cut up to", keyText(d.FrontierKey)},
		{"last key", keyText(d.MaxKey)},
		{"batch size", optional(d.BatchSize, int4)},
		{"sub-batch size", orElse(optional(d.SubBatchSize, int4), "auto")},
		{"interval", d.Interval.String()},
		{"pause", d.Pause.String()},
		{"max attempts", int4(d.MaxAttempts)},
		{"parallelism", int4(d.Parallelism)},
		{"enqueued by", d.EnqueuedBy},
		{"created at", instant(m.CreatedAt)},
		{"started at", optional(m.StartedAt, instant)},
		{"finished at", finished(m)},
	}
	if m.Hold != nil && !strings.HasPrefix(reason(m), "on hold") {
		lines = append(lines, [2]string{"on hold", fmt.Sprintf("until %s: %s", instant(m.Hold.Until), m.Hold.Reason)})
	}
	fmt.Fprintln(a.Stdout, m.Name)
	for _, line := range lines {
		if line[1] != "" {
			fmt.Fprintf(a.Stdout, "  %-14s  %s\n", line[0], line[1])
		}
	}
}

func finished(m control.Migration) string {
	if m.FinishedAt == nil {
		return ""
	}
	since := m.CreatedAt
	if m.StartedAt != nil {
		since = *m.StartedAt
	}
	return fmt.Sprintf("%s, after %s", instant(*m.FinishedAt), span(m.FinishedAt.Sub(since).Round(time.Millisecond)))
}

// keyText writes a key as PostgreSQL's text forms of its columns.
func keyText(key []string) string { return strings.Join(key, ", ") }

func int4(n int32) string { return count(int64(n)) }

func verbatim(text string) string { return text }

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}
