package main

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// notesHeading begins the part of the report that people write; everything behind it survives the next run.
const notesHeading = "\n## Notes\n"

// notesOf returns the notes of an earlier report, their heading included; "" for none.
func notesOf(report string) string {
	if at := strings.Index(report, notesHeading); at >= 0 {
		return report[at:]
	}
	return ""
}

// report writes all that was measured, in Markdown.
func (b *bench) report() string {
	var r strings.Builder
	fmt.Fprintf(&r, "# Benchmarks\n\nWritten by `make bench` on %s, in %s. Everything but the notes at the end is overwritten by the next run.\n",
		b.began.UTC().Format("2006-01-02"), b.elapsed.Round(time.Minute))
	b.writeFigures(&r)
	b.writeConditions(&r)
	for _, s := range b.comparisons {
		s.write(&r)
	}
	b.writeShares(&r)
	b.writeScaling(&r)
	b.writeRuns(&r)
	return r.String()
}

// writeConditions tells where and how times were taken.
func (b *bench) writeConditions(r *strings.Builder) {
	fmt.Fprintf(r, "\n## Conditions\n\n")
	m := b.machine
	for _, line := range [][2]string{
		{"Machine", fmt.Sprintf("%s, %d processors, memory %s, %s, file system %s", m.processor, m.processors, m.memory, m.kernel, m.disk)},
		{"Server", m.postgres + ", on the same machine, TCP over loopback"},
		{"Disk", fmt.Sprintf("a commit waits %.2f ms for it (median), which is what asynchronous commits save per transaction", 1e3*m.commit.Seconds())},
		{"Client", fmt.Sprintf("%s, built with %s", b.binary.version, runtime.Version())},
		{"Settings", "`" + describeSettings(baseSettings) + "`; all others are the server's defaults, `fsync` and `synchronous_commit` on"},
		{"Command", "`" + strings.TrimSpace("go run ./internal/bench "+strings.Join(b.args, " ")) + "`; sections left out: " + b.leftOut()},
		{"Statistics", "`pg_stat_statements` is loaded, and tracks nothing while times are taken"},
	} {
		fmt.Fprintf(r, "- %s: %s.\n", line[0], line[1])
	}
	fmt.Fprintf(r, `
Each round runs every contender once, in random order, on the same server. Before each run the table is made anew: rows copied in the same order, indexes
built, `+"`VACUUM (FREEZE, ANALYZE)`, `CHECKPOINT`"+`. After each run a query proves that every balance is 1. Times are medians of the rounds. A ratio is one
of medians; behind it, in parentheses, the lowest and highest ratio within one round. bbm-runner is a process of the built program; its time runs from the
start of that process, with everything that it prepares, until a client is told of the commit that made the migration `+"`finished`"+`, which is on disk then.
A run during which other programs used more than %.0f %% of the processors is repeated, up to %d times, whatever its time was: %s.

| contender | what it is |
|---|---|
`, 100*disturbance, quietAttempts-1, b.disturbances())
	for _, c := range b.ran() {
		fmt.Fprintf(r, "| %s | %s |\n", c.name, c.description)
	}
}

// leftOut names the sections that were not asked for.
func (b *bench) leftOut() string {
	names := slices.DeleteFunc(sectionNames(), b.wants)
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// disturbances tells how often the machine was not quiet.
func (b *bench) disturbances() string {
	repeated, kept := 0, 0
	for _, s := range b.sections() {
		repeated += len(s.disturbed)
		for _, m := range s.results {
			if m.isDisturbed() {
				kept++
			}
		}
	}
	return fmt.Sprintf("%d were, and %d of those that count were disturbed all the same", repeated, kept)
}

// sections are all that were timed.
func (b *bench) sections() []*section {
	if b.large == nil {
		return b.comparisons
	}
	return append(slices.Clone(b.comparisons), b.large.sizes...)
}

// ran are the contenders that took part in a comparison.
func (b *bench) ran() []contender {
	return slices.DeleteFunc(contenders(), func(c contender) bool {
		return !slices.ContainsFunc(b.comparisons, func(s *section) bool { return len(s.results.of(c.name)) > 0 })
	})
}

// write writes a section's table.
func (s *section) write(r *strings.Builder) {
	fmt.Fprintf(r, "\n## %s\n\n%s rows of %.0f bytes on disk; %s. Rounds: %d.\n\n", strings.ToUpper(s.name[:1])+s.name[1:], count(s.rows), s.rowBytes, s.layout.description, s.rounds)
	writeTable(r, []string{"contender", "s", "least to most", "× UPDATE", "× PL/pgSQL loop", "server's processor s", "client's", "WAL MB", "peak memory MB"}, s.tableRows())
}

func (s *section) tableRows() (rows [][]string) {
	for _, c := range s.contenders {
		of := s.results.of(c.name)
		shortest, longest := of.extent()
		peak := "–"
		if c.migration != nil {
			peak = megabytes(of.medianOf(func(m measurement) float64 { return float64(m.peakBytes) }))
		}
		rows = append(rows, []string{
			c.name, fmt.Sprintf("%.2f", of.wall()), fmt.Sprintf("%.2f to %.2f", shortest, longest),
			s.ratioText(c.name, plainUpdate), s.ratioText(c.name, serverLoop),
			fmt.Sprintf("%.2f", of.medianOf(seconds(func(m measurement) time.Duration { return m.cpu.server }))),
			fmt.Sprintf("%.2f", of.medianOf(seconds(func(m measurement) time.Duration { return m.cpu.client }))),
			megabytes(of.medianOf(func(m measurement) float64 { return float64(m.walBytes) })), peak,
		})
	}
	return rows
}

func (s *section) ratioText(contender, reference string) string {
	if contender == reference {
		return "1"
	}
	ratio, lowest, highest := s.results.ratio(contender, reference)
	return fmt.Sprintf("%.2f (%.2f–%.2f)", ratio, lowest, highest)
}

// writeRuns writes every single run, in the order in which they happened.
func (b *bench) writeRuns(r *strings.Builder) {
	fmt.Fprintf(r, "\n## Every run\n\nIn order. Other programs: processor time that neither the server nor the client used, the kernel's own threads included.\n\n")
	var rows [][]string
	for _, s := range b.sections() {
		for _, m := range s.results {
			rows = append(rows, []string{s.name, strconv.Itoa(m.round), m.contender, fmt.Sprintf("%.2f", m.wall.Seconds()),
				fmt.Sprintf("%.2f", m.cpu.other.Seconds()), fmt.Sprintf("%.2f", m.cpu.stolen.Seconds())})
		}
	}
	writeTable(r, []string{"section", "round", "contender", "s", "other programs s", "stolen s"}, rows)
}

func writeTable(r *strings.Builder, headings []string, rows [][]string) {
	fmt.Fprintf(r, "| %s |\n|%s\n", strings.Join(headings, " | "), strings.Repeat("---|", len(headings)))
	for _, row := range rows {
		fmt.Fprintf(r, "| %s |\n", strings.Join(row, " | "))
	}
}

func describeSettings(settings map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		parts = append(parts, name+" = "+settings[name])
	}
	return strings.Join(parts, ", ")
}

func megabytes(bytes float64) string { return fmt.Sprintf("%.0f", bytes/1e6) }

// count writes a number with separators.
func count(n int) string {
	digits := strconv.Itoa(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
