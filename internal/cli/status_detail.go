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
		{"left out", leftOutBeside(m)},
		{"progress", fmt.Sprintf("%s, %s rows, %s changed", percent(m.Progress), rowsOf(m), count(m.AffectedRows))},
		{"failed row", failedRow(m.FailedRow)},
		{"next", nextStep(m)},
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
		{"on row error", rowErrorPolicy(d)},
		{"enqueued by", d.EnqueuedBy},
		{"created at", instant(m.CreatedAt)},
		{"started at", optional(m.StartedAt, instant)},
		{"finished at", finished(m)},
		{"remaining", optional(d.Remaining, verbatim)},
		{"proof", proof(m.Proof)},
	}
	if m.Hold != nil && !strings.HasPrefix(reason(m), "on hold") {
		lines = append(lines, [2]string{"on hold", fmt.Sprintf("until %s: %s", instant(m.Hold.Until), m.Hold.Reason)})
	}
	fmt.Fprintln(a.Stdout, visible(m.Name))
	for _, line := range lines {
		if line[0] != "status" { // which may be coloured
			line[1] = visible(line[1])
		}
		if line[1] != "" {
			fmt.Fprintf(a.Stdout, "  %-14s  %s\n", line[0], line[1])
		}
	}
}

// failedRow names the row on which a job failed last, and the rule that it breaks.
func failedRow(row *control.FailedRow) string {
	if row == nil {
		return ""
	}
	return visible(fmt.Sprintf("(%s) = (%s): %s (job %d, failures %d)", work.WriteNames(row.Cursor), clip(keyText(row.Key), longKey),
		exceptionText(&row.Exception, nil, row.Constraint, &row.Message), row.Job, row.Attempts))
}

// leftOutBeside is leftOut where another reason was given already.
func leftOutBeside(m control.Migration) string {
	if reason(m) == leftOut(m) {
		return ""
	}
	return leftOut(m)
}

// nextStep says what whoever is on call can do about a migration that failed, or a row that was
// left out.
func nextStep(m control.Migration) string {
	switch {
	case m.Status == "cancelled":
		return ""
	case m.FailedRow == nil && m.Failure != nil:
		return afterFailure(m)
	case m.FailedRow == nil && m.LeftOut > 0:
		return "mend the rows or the work, then: bbm-runner quarantine retry " + m.Name
	case m.FailedRow == nil:
		return ""
	case m.WaitingFor != nil && strings.HasPrefix(*m.WaitingFor, "blocked by"):
		return "" // what it waits for is told
	case m.Status != "failed" && isLost(m.FailedRow.Exception):
		return "the row is locked by others; the next attempt goes on when it is free"
	case m.Status != "failed":
		return "mend the row, and the next attempt goes on"
	case m.LeftOut >= int64(m.Details.Quarantine):
		return fmt.Sprintf("mend the rows or the work, then: bbm-runner quarantine retry %[1]s, and: bbm-runner retry %[1]s", m.Name)
	case m.Details.OnRowError == "quarantine":
		return "bbm-runner retry " + m.Name
	}
	return fmt.Sprintf("mend the row or the work, then: bbm-runner retry %[1]s (a mended work: --accept-work); or leave such rows out: "+
		"bbm-runner set %[1]s on_row_error=quarantine, then retry", m.Name)
}

// afterFailure is about one that no single row is to blame for. Only retry sets it going, also
// beside rows in quarantine.
func afterFailure(m control.Migration) string {
	switch m.Failure.Code {
	case "rows_remaining":
		return fmt.Sprintf("stop what writes such rows, or mend the work, then: bbm-runner retry %s (a mended work: --accept-work)", m.Name)
	case "max_attempts", "invalid_work":
		return fmt.Sprintf("mend what failed, then: bbm-runner retry %s (a mended work: --accept-work)", m.Name)
	}
	return "" // its message says
}

// isLost tells a row that was lost to others from one that is wrong.
func isLost(exception string) bool {
	return exception == "lock_not_available" || exception == "deadlock_detected" || exception == "serialization_failure"
}

func rowErrorPolicy(d control.Details) string {
	if d.OnRowError != "quarantine" {
		return d.OnRowError
	}
	return fmt.Sprintf("%s, at most %s rows", d.OnRowError, int4(d.Quarantine))
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

// proof says what a finished migration rests on.
func proof(p *control.Proof) string {
	if p == nil {
		return ""
	}
	text := fmt.Sprintf("%s rows looked at until %s, none remains", count(p.Rows), instant(p.VerifiedAt))
	if p.LeftOut > 0 {
		text += fmt.Sprintf(" but %s in quarantine", count(p.LeftOut))
	}
	return text
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
