package cli

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/bbm-runner/bbm-runner/internal/control"
	"github.com/bbm-runner/bbm-runner/internal/runner"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

func (a *app) newRunCommand() *cobra.Command {
	var (
		only      []string
		untilIdle bool
	)
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Execute migrations, as a daemon or until nothing is left to do",
		Long: fmt.Sprintf(`Executes migrations until it is stopped. Two gates must be open: this process's parameter (BBM_ENABLED=true) and the fleet's flag
(%[1]s enable). The first SIGTERM or SIGINT lets sub-batches end within BBM_SHUTDOWN_GRACE, a second one cancels them; nothing is lost either way.

With --until-idle it ends when every migration whose work it has is finished, failed, cancelled, paused or on hold. What is left undone is told, with
the reason. The exit code is 1 if one that it executed failed, or if a gate is closed; with --only also if one of those is not finished, and 2 if there
is none of that name.

A database that is not there yet, starts or fails over is waited for, see --wait-for-database. A wrong password, an unknown database or missing tables are
errors at once.

A work that is broken is left out and told in the log; the others run. Where all are broken, it does not start (2).

See %[1]s help settings for what else can be set.`, a.Name),
		Example: fmt.Sprintf(`  BBM_ENABLED=true %[1]s run
  BBM_ENABLED=true %[1]s run --until-idle --only users_email_lower`, a.Name),
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := a.run(cmd.Context(), only, untilIdle)
			isToFinish := untilIdle && len(only) > 0
			if cmd.Context().Err() != nil && !isToFinish {
				return nil // a signal is how it is stopped, while it starts too
			}
			return err
		},
	}
	cmd.Flags().String("workers", "", "`jobs` that this process may execute at once (default 1)")
	cmd.Flags().String("asynchronous-commit", "", "false: every sub-batch waits for the disk (default true) (`BOOL`)")
	cmd.Flags().String("wait-for-database", "", "how long to wait for a database that is not there yet (default forever; 1m with --until-idle) (`DURATION`)")
	cmd.Flags().StringArrayVar(&only, "only", nil, "execute the migration of this `NAME` only; repeatable")
	cmd.Flags().BoolVar(&untilIdle, "until-idle", false, "end when no migration can be brought forward any more")
	_ = cmd.RegisterFlagCompletionFunc("only", a.completeMigrations("active", "running", "paused"))
	return cmd
}

func (a *app) run(ctx context.Context, only []string, untilIdle bool) error {
	collectOften()
	logger := newLogger(a.Stderr, a.config)
	works, broken, err := a.worksToRun(logger)
	if err != nil {
		return err
	}
	connConfig, err := a.connConfig()
	if err != nil {
		return err
	}
	// What is wrong with the server or the schema shows here, in a sentence, and not in a log that goes on.
	err = a.withDatabase(ctx, a.databaseWait(untilIdle), logger, func(c *control.Control) error {
		if err := c.CheckRunnerRights(ctx); err != nil {
			return err
		}
		return a.checkNames(ctx, c, only, untilIdle)
	})
	if ctx.Err() != nil && !untilIdle {
		return nil // a daemon that was stopped
	}
	if err != nil {
		return err
	}
	report, flush, err := a.reporter()
	if err != nil {
		return err
	}
	defer flush()
	version, _ := a.build()
	left := undone{only: only}
	r, err := runner.New(connConfig, works, runner.Config{
		Enabled: a.config.Enabled, Workers: a.config.Workers, Only: only, BrokenWorks: broken.Names(), UntilIdle: untilIdle,
		PollInterval: a.config.PollInterval, ShutdownGrace: a.config.ShutdownGrace,
		LockTimeout: a.config.LockTimeout, StatementTimeout: a.config.StatementTimeout, IdleTimeout: a.config.IdleTimeout,
		SynchronousCommit: !a.config.AsynchronousCommit,
		RetentionMonths:   a.config.LogRetentionMonths,
		Version:           version, Logger: logger, Report: report, Settled: left.look,
	})
	if err != nil {
		return err
	}
	logger.Info("runner started", "version", version, "database", fmt.Sprintf("%s:%d/%s", connConfig.Host, connConfig.Port, connConfig.Database),
		"user", connConfig.User, "works", workNames(works), "workers", a.config.Workers, "enabled", a.config.Enabled)
	a.signals.onSecond(r.Interrupt)
	err = r.Run(ctx)
	undoneErr := left.tell(a)
	switch {
	case err != nil || !untilIdle:
		return err
	case ctx.Err() != nil && len(only) > 0:
		return ctx.Err()
	case broken != nil && len(only) == 0:
		return broken
	}
	return undoneErr
}

// collectOften keeps a daemon's memory where it is after its first minute. By default Go lets the heap grow to 4 MB before it collects at all, which a short
// run never reaches: 19.3 MB after three million rows, 16.5 after 100,000. At a quarter it is 18.4 and 17.3, at the same processor time, since
// a runner allocates little. GOGC in the environment decides otherwise.
func collectOften() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(25)
	}
}

func workNames(works *work.Registry) []string {
	names := []string{}
	for _, w := range works.All() {
		names = append(names, w.Name)
	}
	return names
}
