package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bbm-runner/bbm-runner/internal/config"
)

// Groups of commands in the help, by whom they serve.
const (
	groupWorks   = "works"
	groupMigrate = "migrate"
	groupControl = "control"
	groupInstall = "install"
)

// globalFlags are the settings that every command takes, and their keys in the configuration.
var globalFlags = []struct{ flag, setting, help string }{
	{"database-url", "database_url", "PostgreSQL connection `URL` or string (else PG* variables and ~/.pgpass)"},
	{"works", "works_dir", "`DIR` of the work files (default works)"},
	{"config", "config", "YAML `FILE` with settings"},
	{"log-format", "log_format", "`FORMAT` of the log: auto, text or json (default auto: text on a terminal)"},
	{"log-level", "log_level", "lowest `LEVEL` that is logged: debug, info, warn or error (default info)"},
}

func (a *app) newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   a.Name,
		Short: "Batched background migrations for PostgreSQL",
		Long: `Changes the data of large, live PostgreSQL tables in small transactions: exactly once, resumable, observable.

A work says what is done to one batch (a .sql file, or Go). A migration is one run of a work over a table: enqueue it, let a
runner execute it, watch it, gate later deploys on it.

Exit codes: 0 done; 1 failed; 2 wrong usage or input; 3 wait: a migration failed or was cancelled; 4 wait: time ran out.`,
		Example: fmt.Sprintf(`  %[1]s schema up
  %[1]s enable
  %[1]s enqueue users_email_lower
  %[1]s run --until-idle
  %[1]s status`, a.Name),
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		Args:              unknownCommand,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.HasParent() {
				return nil // help
			}
			a.command = cmd.Name()
			if err := a.loadConfig(cmd.Flags()); err != nil {
				return err
			}
			for _, warning := range a.config.Warnings {
				a.warn("%s", warning)
			}
			return nil
		},
	}
	// Before the completion command is made, which keeps the writer that it finds.
	root.SetIn(a.Stdin)
	root.SetOut(a.Stdout)
	root.SetErr(a.Stderr)
	for _, f := range globalFlags {
		root.PersistentFlags().String(f.flag, "", f.help)
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		// What strconv adds to its verdict helps nobody who typed a flag.
		return usagef("%s", strings.NewReplacer("strconv.ParseInt: ", "", "strconv.ParseBool: ", "", "time: ", "").Replace(err.Error()))
	})
	root.AddGroup(
		&cobra.Group{ID: groupWorks, Title: "Works:"},
		&cobra.Group{ID: groupMigrate, Title: "Migrations:"},
		&cobra.Group{ID: groupControl, Title: "Control:"},
		&cobra.Group{ID: groupInstall, Title: "Installation:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupWorks, a.newNewCommand(), a.newWorksCommand(), a.newExplainCommand(), a.newSampleCommand())
	add(groupMigrate, a.newEnqueueCommand(), a.newRunCommand(), a.newStatusCommand(), a.newJobsCommand(), a.newLogsCommand(), a.newWaitCommand(),
		a.newVerifyCommand())
	add(groupControl, a.newPauseCommand(), a.newResumeCommand(), a.newCancelCommand(), a.newRetryCommand(), a.newSetCommand(), a.newQuarantineCommand(),
		a.newDeleteCommand())
	add(groupInstall, a.newSchemaCommand(), a.newEnableCommand(), a.newDisableCommand(), a.newDemoCommand(), a.newVersionCommand())
	root.AddCommand(newSettingsTopic())
	root.SetHelpCommand(a.newHelpCommand())
	root.SetHelpCommandGroupID(groupInstall)
	a.addCompletion(root)
	return root
}

// loadConfig reads the settings, those of the command's flags that were given first.
func (a *app) loadConfig(flags *pflag.FlagSet) error {
	given := make(map[string]string)
	add := func(flag, setting string) {
		if f := flags.Lookup(flag); f != nil && f.Changed {
			given[setting] = f.Value.String()
		}
	}
	for _, f := range globalFlags {
		add(f.flag, f.setting)
	}
	add("workers", "workers")
	add("asynchronous-commit", "asynchronous_commit")
	add("wait-for-database", "wait_for_database")
	loaded, err := config.Load(config.Sources{Flags: given, Environ: a.Environ})
	if err != nil {
		return err
	}
	a.config = loaded
	return nil
}
