package main

import (
	"fmt"
	"strings"
	"sync"
)

// counters are what a round did and found. Acts happen in several goroutines at once.
type counters struct {
	mu                      sync.Mutex
	rounds                  int
	done                    map[string]int // acts by name
	migrated, jobs, changed int            // migrations, jobs, and rows changed by works

	lost, twice, unlogged, stuck, other int // faults
}

func (c *counters) count(act string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(map[string]int)
	}
	c.done[act]++
}

func (c *counters) add(other *counters) {
	for act, n := range other.done {
		for range n {
			c.count(act)
		}
	}
	c.rounds += other.rounds
	c.migrated += other.migrated
	c.jobs += other.jobs
	c.changed += other.changed
	c.lost += other.lost
	c.twice += other.twice
	c.unlogged += other.unlogged
	c.stuck += other.stuck
	c.other += other.other
}

// sum adds up acts.
func (c *counters) sum(acts ...string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, act := range acts {
		n += c.done[act]
	}
	return n
}

func (c *counters) summary() string {
	return fmt.Sprintf("%d kills, %d server restarts, %d cut networks, %d control commands; %d migrations, %d jobs, %d rows",
		c.sum(actKill), c.sum(actCrash, actRestart), c.sum(actReset, actStall, actSwallow), c.sum(controlActs...), c.migrated, c.jobs, c.changed)
}

func (c *counters) report() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%d rounds: %s\n", c.rounds, c.summary())
	for _, a := range acts {
		fmt.Fprintf(&b, "  %-22s %6d\n", a.name, c.sum(a.name))
	}
	fmt.Fprintf(&b, "%d rows lost, %d rows changed twice, %d transitions unlogged, %d migrations stuck, %d other faults\n",
		c.lost, c.twice, c.unlogged, c.stuck, c.other)
	return b.String()
}

func indented(lines []string) string {
	const most = 20
	if len(lines) > most {
		lines = append(lines[:most:most], fmt.Sprintf("… and %d more", len(lines)-most))
	}
	return "        " + strings.ReplaceAll(strings.Join(lines, "\n"), "\n", "\n        ")
}
