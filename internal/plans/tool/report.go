package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

const introduction = `# Scale

<!-- Written by make bench-scale. -->

What the cycle's own statements cost at 10 million jobs (30 million log rows over six months, one migration with 9 million of the jobs) beside 10,000
jobs, with 10,000 migrations in both. Both databases are on one server and measured in turns, in one run; the statements are those that ship, sent by
the generated code in a session as a runner's. Times are what the client sees, round trips and commit included; the server does not wait for the
disk (fsync is off), which would hide differences. Buffers are the pages of our tables and indexes that an operation looks up, the checks of
foreign keys included.

`

// report writes the figures as Markdown.
func report(postgres int, measured map[string]*[2]figures) string {
	var b strings.Builder
	b.WriteString(introduction)
	fmt.Fprintf(&b, "Measured on %s with PostgreSQL %d, %s and %s, on %s; %d rounds, %d for buffers.\n\n",
		time.Now().UTC().Format("2006-01-02"), postgres, runtime.Version(), cpu(), runtime.GOOS, rounds, bufferRounds)
	b.WriteString("| operation | median, 10,000 jobs | median, 10 million | ratio | p99, 10,000 | p99, 10 million | ratio | buffers, 10,000 | 10 million | ratio |\n")
	b.WriteString("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, o := range operations {
		m := measured[o.name]
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", o.name, times(m, 0.5), times(m, 0.99), buffers(m))
	}
	m := measured[statusMeasure]
	fmt.Fprintf(&b, "| %s | %s | %s | | | |\n", statusMeasure, times(m, 0.5), times(m, 0.99))
	return b.String()
}

func times(m *[2]figures, q float64) string {
	a, b := m[0].quantile(q), m[1].quantile(q)
	return fmt.Sprintf("%s | %s | %.2f", milliseconds(a), milliseconds(b), float64(b)/float64(a))
}

func buffers(m *[2]figures) string {
	a, b := m[0].pages(), m[1].pages()
	return fmt.Sprintf("%d | %d | %.2f", a, b, float64(b)/float64(a))
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.2f ms", d.Seconds()*1000) }

// cpu names the processor where the system tells.
func cpu() string {
	count := fmt.Sprintf("%d cores", runtime.NumCPU())
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return count
	}
	for line := range strings.Lines(string(text)) {
		if name, found := strings.CutPrefix(line, "model name"); found {
			return count + " of " + strings.Trim(name, "\t :\n")
		}
	}
	return count
}
