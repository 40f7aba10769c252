// Command torture runs bbm-runner while everything around it breaks, and proves afterwards that nothing was lost and nothing done twice: `make
// torture`, or `go run ./internal/torture`. docs/torture.md tells what it does and how to read a failure.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

// maxFailures ends a run early: the evidence of each failed round is a whole cluster.
const maxFailures = 3

type options struct {
	duration time.Duration
	rounds   int
	seed     uint64
	hardship time.Duration
	race     bool
	keep     bool
	dir      string
}

func main() {
	var o options
	flags := flag.NewFlagSet("torture", flag.ExitOnError)
	flags.DurationVar(&o.duration, "duration", 30*time.Minute, "no round begins after this time")
	flags.IntVar(&o.rounds, "rounds", 0, "the most rounds (default: as many as fit)")
	flags.Uint64Var(&o.seed, "seed", 0, "seed of the first round; the next has the next (default: random)")
	flags.DurationVar(&o.hardship, "hardship", 20*time.Second, "how long a round's disturbances last")
	flags.BoolVar(&o.race, "race", false, "build bbm-runner with the race detector")
	flags.BoolVar(&o.keep, "keep", false, "keep the evidence of rounds that went well, too")
	flags.StringVar(&o.dir, "dir", "", "where the evidence goes (default: a new temporary folder)")
	_ = flags.Parse(os.Args[1:]) // ExitOnError
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		stop()
		os.Exit(1)
	}
}

// run plays rounds until the time is over. A failed round is an error at the end: those after it are run as well.
func run(ctx context.Context, o options) error {
	dir, err := evidenceDir(o.dir)
	if err != nil {
		return err
	}
	program, err := build(ctx, dir, o.race)
	if err != nil {
		return err
	}
	seed := cmp.Or(o.seed, rand.Uint64()>>32)
	fmt.Printf("seed %d, evidence in %s\n", seed, dir)
	var (
		total  counters
		failed []uint64
		begin  = time.Now()
	)
	for n := 0; ctx.Err() == nil && len(failed) < maxFailures && (o.rounds == 0 || n < o.rounds) && time.Since(begin) < o.duration; n++ {
		r := newRound(settings{
			seed: seed + uint64(n), dir: filepath.Join(dir, fmt.Sprintf("round-%d", seed+uint64(n))), program: program,
			binDir: os.Getenv(dbtest.BinVariable), hardship: o.hardship, rows: 6000, turns: maxTurns, deadline: 3 * time.Minute,
		})
		complaints := r.play(ctx)
		if ctx.Err() != nil {
			_ = r.discard()
			break // an interrupted round proves nothing
		}
		total.add(&r.counters)
		fmt.Printf("%6s  round %d: %s\n", time.Since(begin).Round(time.Second), r.seed, r.summary())
		if len(complaints) > 0 {
			failed = append(failed, r.seed)
			fmt.Printf("        FAILED, see %s\n%s\n", r.dir, indented(complaints))
		} else if !o.keep {
			if err := r.discard(); err != nil {
				return err
			}
		}
	}
	fmt.Print(total.report())
	if len(failed) > 0 {
		return fmt.Errorf("rounds with the seeds %d failed; run one again with --rounds 1 --seed N", failed)
	}
	if total.rounds == 0 {
		return errors.New("no round was completed")
	}
	if !o.keep {
		return os.RemoveAll(dir)
	}
	return nil
}

// evidenceDir makes a folder that the server's user can enter, who may be another than ours.
func evidenceDir(dir string) (string, error) {
	if dir == "" {
		made, err := os.MkdirTemp("", "bbm-torture-")
		if err != nil {
			return "", err
		}
		return made, os.Chmod(made, 0o755)
	}
	return filepath.Abs(dir)
}

// build builds the program as it is in this checkout.
func build(ctx context.Context, dir string, race bool) (program, error) {
	path := filepath.Join(dir, "bbm-runner")
	args := []string{"build", "-trimpath", "-o", path}
	if race {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "github.com/bbm-runner/bbm-runner/cmd/bbm-runner")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return program{}, fmt.Errorf("build bbm-runner: %w: %s", err, out)
	}
	return program{path: path}, nil
}
