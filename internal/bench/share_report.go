package main

import (
	"fmt"
	"strings"
	"time"
)

func (b *bench) writeShares(r *strings.Builder) {
	if !b.wants(sectionShare) {
		return
	}
	fmt.Fprintf(r, "\n## Where the time goes\n\n")
	if b.noShares != nil {
		fmt.Fprintf(r, "Not measured: %s.\n", b.noShares)
		return
	}
	fmt.Fprintf(r, "From runs of their own, as asking costs something. Statements: from pg_stat_statements; BEGIN and COMMIT are not in it. "+
		"Sessions: what those of the runner were found at, looked at every %s; a session that is idle in a transaction waits for the client.\n", sampleInterval)
	for _, s := range b.shares {
		s.write(r)
	}
}

// leastShare is the part below which a row would only lengthen a table.
const leastShare = 0.001

func (s share) write(r *strings.Builder) {
	fmt.Fprintf(r, "\n### %s\n\nOwn statements, which is all but the work: **%.1f %%** of the server's time. Wall time %.2f s.\n\n",
		s.contender, 100*s.ownShare(), s.wall.Seconds())
	var all time.Duration
	for _, one := range s.statements {
		all += one.time()
	}
	var rows [][]string
	for _, one := range s.statements {
		if share := one.time().Seconds() / all.Seconds(); share >= leastShare {
			rows = append(rows, []string{one.name, count(int(one.calls)), milliseconds(one.planning, one.calls), milliseconds(one.executed, one.calls),
				fmt.Sprintf("%.3f", one.time().Seconds()), fmt.Sprintf("%.1f %%", 100*share)})
		}
	}
	writeTable(r, []string{"statement", "calls", "planning ms a call", "execution ms a call", "s", "share"}, rows)
	rows = nil
	for _, w := range s.waits {
		if share := float64(w.samples) / float64(s.samples); share >= leastShare {
			rows = append(rows, []string{strings.TrimSpace(w.state + " " + w.event), fmt.Sprintf("%.1f %%", 100*share)})
		}
	}
	fmt.Fprintln(r)
	writeTable(r, []string{"sessions", "share of looks"}, rows)
}

// milliseconds is the mean of so many calls.
func milliseconds(total time.Duration, calls int64) string {
	return fmt.Sprintf("%.3f", 1e3*total.Seconds()/float64(max(1, calls)))
}
