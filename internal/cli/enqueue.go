package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bbm-runner/bbm-runner/internal/control"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

func (a *app) newEnqueueCommand() *cobra.Command {
	var (
		options                             control.EnqueueOptions
		pairs                               []string
		batchSize, maxAttempts, parallelism int
		interval, pause                     time.Duration
		subBatchSize, onRowError            string
		quarantineLimit                     int
	)
	cmd := &cobra.Command{
		Use:   "enqueue WORK",
		Short: "Create a migration: one run of a work over its table",
		Long: `Checks the work against the database, creates a migration and prints its name, alone. The same name with the same work and arguments again
changes nothing and succeeds, so that a deploy may be repeated. What the flags leave open comes from the work file, then from the defaults.`,
		Example: fmt.Sprintf(`  %[1]s enqueue users_email_lower
  %[1]s enqueue users_email_lower --name lower_example_com --arg domain=example.com --pause 100ms
  %[1]s enqueue users_email_lower --dry-run`, a.Name),
		Args:              takes("WORK"),
		ValidArgsFunction: a.completeWorks,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			options.Work = args[0]
			if options.Arguments, err = readPairs("--arg", pairs); err != nil {
				return err
			}
			if cmd.Flags().Changed("name") && options.Name == "" {
				return usagef("the name is empty; give one, or leave --name out to use the work's")
			}
			options.BatchSize = given(cmd, "batch-size", &batchSize)
			if options.SubBatchAuto = subBatchSize == "auto"; !options.SubBatchAuto && cmd.Flags().Changed("sub-batch-size") {
				if err := readInt(&options.SubBatchSize, subBatchSize, ", or auto"); err != nil {
					return usagef("--sub-batch-size is %q; %s", subBatchSize, err)
				}
			}
			options.MaxAttempts = given(cmd, "max-attempts", &maxAttempts)
			options.Parallelism = given(cmd, "parallelism", &parallelism)
			options.Interval = given(cmd, "interval", &interval)
			options.Pause = given(cmd, "pause", &pause)
			options.OnRowError = given(cmd, "on-row-error", &onRowError)
			options.QuarantineLimit = given(cmd, "quarantine-limit", &quarantineLimit)
			return a.enqueue(cmd.Context(), options)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&options.Name, "name", "", "name of the migration, at most 100 characters (default the work's)")
	flags.StringArrayVar(&pairs, "arg", nil, "argument of the work, as `key=value`; repeatable")
	flags.IntVar(&batchSize, "batch-size", 0, "`rows` of a job (default 50000)")
	flags.StringVar(&subBatchSize, "sub-batch-size", "", "`rows` of a transaction, fixed; auto (default where the work's file has none): chosen by the runner")
	flags.DurationVar(&interval, "interval", 0, "time between the starts of two jobs (default 0s)")
	flags.DurationVar(&pause, "pause", 0, "time between two sub-batches (default 0s)")
	flags.IntVar(&maxAttempts, "max-attempts", 0, "`failures` of one job that fail the migration (default 5)")
	flags.IntVar(&parallelism, "parallelism", 0, "`jobs` that may run at once, slots permitting (default 1)")
	flags.StringVar(&onRowError, "on-row-error", "", "`POLICY` for a row that fails on its data: fail (default), or quarantine: it is left out and listed")
	flags.IntVar(&quarantineLimit, "quarantine-limit", 0, "`rows` that may be left out (default 100)")
	flags.BoolVar(&options.Paused, "paused", false, "create it paused; start it with resume")
	flags.BoolVar(&options.DryRun, "dry-run", false, "check everything and say what would be created")
	strictFlags(flags, &options.Strict, &options.Accept)
	_ = cmd.RegisterFlagCompletionFunc("on-row-error", cobra.FixedCompletions(
		[]cobra.Completion{"fail", "quarantine"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// strictFlags are for pipelines.
func strictFlags(flags *pflag.FlagSet, strict *bool, accept *[]string) {
	flags.BoolVar(strict, "strict", false, "exit with code 1 where there are warnings about the work; enqueue then creates nothing")
	flags.StringSliceVar(accept, "accept", nil, "`CODES` of warnings that are known, and left out")
}

func (a *app) enqueue(ctx context.Context, options control.EnqueueOptions) error {
	works, err := a.registryFor(options.Work)
	if err != nil {
		return err
	}
	return a.withControl(ctx, works, func(c *control.Control) error {
		result, refusal := c.Enqueue(ctx, options)
		if refusal != nil && !errors.Is(refusal, control.ErrFindings) {
			return refusal
		}
		for _, finding := range result.Findings {
			a.warn("%s [%s]", finding.Message, finding.Code)
		}
		for _, warning := range result.Warnings {
			a.warn("%s", warning)
		}
		if len(result.IgnoredTuning) > 0 {
			a.warn("%s is there already; ignored: %s", result.Name, strings.Join(result.IgnoredTuning, ", "))
		}
		if options.DryRun {
			a.printPlan(result)
		}
		if options.DryRun || refusal != nil {
			return refusal
		}
		fmt.Fprintln(a.lines(), result.Name)
		return nil
	})
}

// given returns a pointer to a flag's value, or nil where the flag was left out: zero is a value that may be refused.
func given[T any](cmd *cobra.Command, flag string, value *T) *T {
	if !cmd.Flags().Changed(flag) {
		return nil
	}
	return value
}

// readPairs reads key=value, each key once.
func readPairs(what string, pairs []string) (map[string]string, error) {
	values := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, usagef("%s %q is no key=value", what, pair)
		}
		if _, twice := values[key]; twice {
			return nil, usagef("%s %s is given twice", what, key)
		}
		values[key] = value
	}
	return values, nil
}

// printPlan says what an enqueue would have created.
func (a *app) printPlan(r control.EnqueueResult) {
	doing := "would be created"
	if !r.Created {
		doing = fmt.Sprintf("is there already, %s", r.Status)
	}
	subBatch := "auto"
	if r.SubBatchSize != nil {
		subBatch = count(int64(*r.SubBatchSize))
	}
	for _, line := range [][2]string{
		{"migration", r.Name + " " + doing},
		{"work", r.Work + "  " + r.Checksum},
		{"table", r.Table},
		{"cursor", work.WriteNames(r.Cursor)},
		{"rows", "~" + count(r.Rows)},
		{"jobs", fmt.Sprintf("~%s of %s rows, in sub-batches of %s", count(r.Jobs), count(int64(r.BatchSize)), subBatch)},
	} {
		fmt.Fprintf(a.lines(), "%-9s  %s\n", line[0], line[1])
	}
}
