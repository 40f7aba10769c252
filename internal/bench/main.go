// Command bench measures bbm-runner beside what it replaces, and writes docs/benchmarks.md: `make bench`, or `go run ./internal/bench`.
//
// Everything runs on throwaway servers of its own. Contenders are interleaved: each round runs every one of them once, in random order, each on a
// freshly restored copy of the table, and only medians are compared. What else the machine did meanwhile is measured too, and told.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// options are the flags.
type options struct {
	args         []string // as given, for the report
	quick, large bool
	rows         int
	runs         int      // interleaved rounds of the base comparison
	variantRuns  int      // and of each variant
	only         []string // sections; empty: all
	out          string
	cpuProfile   string
	workers      int // of the profiled run
	subBatchSize int // of the profiled run; 0: chosen by the runner
}

func main() {
	o, err := readOptions(os.Args[1:])
	if err != nil {
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func readOptions(args []string) (o options, err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.BoolVar(&o.quick, "quick", false, "a smoke test: 20,000 rows, one run; prints its report")
	flags.BoolVar(&o.large, "large", false, "also compare 10 million rows with 1 million, and memory at 100,000")
	flags.IntVar(&o.rows, "rows", 1_000_000, "rows of the table")
	flags.IntVar(&o.runs, "runs", 5, "interleaved rounds of the base comparison")
	flags.IntVar(&o.variantRuns, "variant-runs", 3, "interleaved rounds of each variant, and of the large comparison")
	only := flags.String("only", "", "these sections alone, separated by commas: "+strings.Join(sectionNames(), ", "))
	flags.StringVar(&o.out, "out", "", `the report's file, "-" for standard output (default docs/benchmarks.md; with --quick or --only: -)`)
	flags.StringVar(&o.cpuProfile, "cpuprofile", "", "run bbm-runner once within this process, write its profile to this file, and nothing else")
	flags.IntVar(&o.workers, "workers", 1, "with --cpuprofile: workers")
	flags.IntVar(&o.subBatchSize, "sub-batch-size", 0, "with --cpuprofile: rows of a transaction (default: chosen by the runner)")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.args = args
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	if err := o.complete(); err != nil {
		fmt.Fprintln(flags.Output(), err)
		return o, err
	}
	return o, nil
}

// complete fills in what depends on other options, and refuses what cannot be.
func (o *options) complete() error {
	if o.quick {
		o.rows, o.runs, o.variantRuns = 20_000, 1, 1
	}
	if o.out == "" {
		o.out = "docs/benchmarks.md"
		if o.quick || o.only != nil {
			o.out = "-"
		}
	}
	if o.rows < 1 || o.runs < 1 || o.variantRuns < 1 {
		return fmt.Errorf("rows and runs must be positive")
	}
	for _, name := range o.only {
		if !slices.Contains(sectionNames(), name) {
			return fmt.Errorf("unknown section %q; use %s", name, strings.Join(sectionNames(), ", "))
		}
	}
	return nil
}

// wants tells whether a section is to run.
func (o *options) wants(section string) bool {
	if section == sectionLarge && !slices.Contains(o.only, section) {
		return o.large && o.only == nil
	}
	return o.only == nil || slices.Contains(o.only, section)
}
