package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bbm-runner/bbm-runner/internal/control"
)

func (a *app) newSetCommand() *cobra.Command {
	var fleet bool
	var why string
	cmd := &cobra.Command{
		Use:   "set NAME key=value... | --fleet slots=N",
		Short: "Tune a migration while it runs, or the fleet",
		Long: `Tunes a migration; a running one follows within one sub-batch.

  sub_batch_size  rows of a transaction; auto: chosen by the runner
  pause           time between two sub-batches
  interval        time between the starts of two jobs
  parallelism     jobs that may run at once, slots permitting
  max_attempts    failures of one job that fail the migration
  asynchronous_commit
                  on (default): sub-batches commit without waiting for the disk; off: each waits
  on_row_error    fail (default): a row that fails on its data fails the attempt; quarantine: it is left out and listed
  quarantine_limit
                  rows that may be left out

With --fleet: slots, the jobs that the whole fleet may execute at once.`,
		Example: fmt.Sprintf(`  %[1]s set users_email_lower pause=250ms sub_batch_size=500
  %[1]s set users_email_lower sub_batch_size=auto
  %[1]s set --fleet slots=4`, a.Name),
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case fleet:
				return atLeastOne("slots=N")(cmd, args)
			case len(args) < 2 || strings.Contains(args[0], "="):
				return usagef("set needs NAME and key=value")
			}
			return notEmpty(cmd, args)
		},
		ValidArgsFunction: a.completeMigrations("paused", "active", "running", "failed"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if fleet {
				return a.setFleet(cmd.Context(), args, why)
			}
			return a.set(cmd.Context(), args[0], args[1:], why)
		},
	}
	cmd.Flags().BoolVar(&fleet, "fleet", false, "set what holds for all runners")
	cmd.Flags().StringVar(&why, "reason", "", "why; kept in the history (see logs)")
	return cmd
}

func (a *app) setFleet(ctx context.Context, pairs []string, why string) error {
	values, err := readPairs("the setting", pairs)
	if err != nil {
		return err
	}
	slots, ok := values["slots"]
	if !ok || len(values) > 1 {
		return usagef("the fleet has one setting: slots=N")
	}
	n, err := strconv.Atoi(slots)
	if err != nil {
		return usagef("slots is %q; give a whole number", slots)
	}
	return a.withControl(ctx, nil, func(c *control.Control) error {
		if err := c.SetSlots(ctx, n, why); err != nil {
			return err
		}
		fmt.Fprintf(a.lines(), "fleet slots=%d\n", n)
		return nil
	})
}

func (a *app) set(ctx context.Context, name string, pairs []string, why string) error {
	values, err := readPairs("the setting", pairs)
	if err != nil {
		return err
	}
	var options control.SetOptions
	for _, key := range slices.Sorted(maps.Keys(values)) {
		read, known := tunables[key]
		switch {
		case key == "batch_size":
			return usagef("batch_size is fixed at the enqueue, since jobs are cut by it; sub_batch_size is the rows of a transaction, and may be set")
		case key == "slots":
			return usagef("slots are the fleet's, not a migration's: %s set --fleet slots=%s", a.Name, values[key])
		case !known:
			return usagef("unknown setting %q; use one of %s", key, strings.Join(slices.Sorted(maps.Keys(tunables)), ", "))
		}
		if err := read(&options, values[key]); err != nil {
			return usagef("%s is %q; %s", key, values[key], err)
		}
	}
	return a.withControl(ctx, nil, func(c *control.Control) error {
		if err := c.Set(ctx, name, why, options); err != nil {
			return err
		}
		fmt.Fprintf(a.lines(), "%s %s\n", name, strings.Join(pairs, " "))
		return nil
	})
}

// tunables are what set can change of a migration.
var tunables = map[string]func(o *control.SetOptions, value string) error{
	"sub_batch_size": func(o *control.SetOptions, value string) error {
		if value == "auto" {
			o.SubBatchAuto = true
			return nil
		}
		return readInt(&o.SubBatchSize, value, ", or auto")
	},
	"parallelism":         func(o *control.SetOptions, value string) error { return readInt(&o.Parallelism, value, "") },
	"max_attempts":        func(o *control.SetOptions, value string) error { return readInt(&o.MaxAttempts, value, "") },
	"asynchronous_commit": func(o *control.SetOptions, value string) error { return readSwitch(&o.AsynchronousCommit, value) },
	"on_row_error":        func(o *control.SetOptions, value string) error { o.OnRowError = &value; return nil },
	"quarantine_limit":    func(o *control.SetOptions, value string) error { return readInt(&o.QuarantineLimit, value, "") },
	"pause":               func(o *control.SetOptions, value string) error { return readDuration(&o.Pause, value) },
	"interval":            func(o *control.SetOptions, value string) error { return readDuration(&o.Interval, value) },
}

func readSwitch(into **bool, value string) error {
	on := value == "on"
	if !on && value != "off" {
		return errors.New("give on or off")
	}
	*into = &on
	return nil
}

func readInt(into **int, value, orElse string) error {
	n, err := strconv.Atoi(value)
	if err != nil {
		return fmt.Errorf("give a whole number%s", orElse)
	}
	*into = &n
	return nil
}

func readDuration(into **time.Duration, value string) error {
	d, err := time.ParseDuration(value)
	if err != nil {
		return fmt.Errorf("give a duration with its unit, such as 250ms or 2h")
	}
	*into = &d
	return nil
}
