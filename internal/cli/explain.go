package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/bbm-runner/bbm-runner/internal/control"
	"github.com/bbm-runner/bbm-runner/internal/preview"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

func (a *app) newExplainCommand() *cobra.Command {
	var (
		pairs               []string
		asMigration, asJSON bool
		o                   explainOptions
	)
	cmd := &cobra.Command{
		Use:   "explain WORK|NAME",
		Short: "Show what would run: statements, plans, and what each write drags along",
		Long: `Shows the boundary query and the work's statement exactly as a run sends them, with their plans on the real table for a range from the middle of it; the
indexes, triggers and foreign keys that the statement touches; and what a reviewer should know. Nothing is changed.

The name is that of a work; where there is no such work, or with --migration, that of a migration, which has its arguments and sizes already.`,
		Example: fmt.Sprintf(`  %[1]s explain users_email_lower --arg domain=example.com
  %[1]s explain users_email_lower --migration --json`, a.Name),
		Args: takes("WORK|NAME"),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if asMigration {
				return a.completeMigrations()(cmd, args, typed)
			}
			return a.completeWorks(cmd, args, typed)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			arguments, err := workArguments(pairs)
			if err != nil {
				return err
			}
			return a.explain(cmd.Context(), args[0], arguments, asMigration, asJSON, o)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&pairs, "arg", nil, "argument of the work, as `key=value`; repeatable")
	flags.BoolVar(&asMigration, "migration", false, "the name is that of a migration, also where a work has it")
	flags.BoolVar(&asJSON, "json", false, "print one object")
	flags.BoolVar(&o.short, "short", false, "leave out the settings, the boundary query, plans for other sizes and the look for what remains")
	strictFlags(flags, &o.strict, &o.accept)
	return cmd
}

// explainOptions say what is left out of an explanation, and whether warnings are an error.
type explainOptions struct {
	short, strict bool
	accept        []string
}

func (a *app) explain(ctx context.Context, name string, arguments work.Arguments, asMigration, asJSON bool, o explainOptions) error {
	works, err := a.registryFor(name)
	if err != nil {
		return err
	}
	return a.withConn(ctx, func(conn *pgx.Conn) error {
		s, err := a.subject(ctx, conn, works, name, arguments, asMigration)
		if err != nil {
			return err
		}
		e, err := preview.Explain(ctx, conn, s)
		if err != nil {
			return err
		}
		if o.short {
			e.Settings, e.Boundary, e.Sizes, e.Remaining = []preview.Setting{}, nil, []preview.SizePlan{}, nil
		}
		e.Warnings = slices.DeleteFunc(e.Warnings, func(w preview.Warning) bool { return slices.Contains(o.accept, w.Code) })
		if asJSON {
			if err := a.printObject(e); err != nil {
				return err
			}
		} else {
			a.printExplanation(e)
		}
		if o.strict && len(e.Warnings) > 0 {
			return control.ErrFindings
		}
		return nil
	})
}

// subject is the work of that name; a migration where there is none, or where one is asked for.
func (a *app) subject(
	ctx context.Context, conn *pgx.Conn, works *work.Registry, name string, arguments work.Arguments, asMigration bool,
) (preview.Subject, error) {
	if w, ok := works.Get(name); ok && !asMigration {
		return preview.Subject{Work: w, Arguments: arguments}, nil
	}
	if len(arguments) > 0 && asMigration {
		return preview.Subject{}, usagef("a migration has its arguments already; leave out --arg")
	}
	if err := (&control.Control{Conn: conn}).CheckSchema(ctx); err != nil {
		if asMigration {
			return preview.Subject{}, err
		}
		return preview.Subject{}, noSuchWork(works, name, "")
	}
	s, err := preview.OfMigration(ctx, conn, works, name)
	if !errors.Is(err, pgx.ErrNoRows) {
		if err == nil && len(arguments) > 0 {
			return s, usagef("%q is a migration, and has its arguments already; leave out --arg", name)
		}
		return s, err
	}
	if asMigration {
		return s, inputf("there is no migration %q; see: %s status", name, a.Name)
	}
	return s, noSuchWork(works, name, " and no migration")
}

// noSuchWork lists the works that there are.
func noSuchWork(works *work.Registry, name, nor string) error {
	var names []string
	for _, w := range works.All() {
		names = append(names, w.Name)
	}
	if names == nil {
		return inputf("there is no work%s %q, and no other work either; is the folder of works right (--works)?", nor, name)
	}
	return inputf("there is no work%s %q; there are the works %s", nor, name, strings.Join(names, ", "))
}

// workArguments reads --arg.
func workArguments(pairs []string) (work.Arguments, error) {
	given, err := readPairs("--arg", pairs)
	if err != nil {
		return nil, err
	}
	arguments := make(work.Arguments, len(given))
	for name, value := range given {
		arguments[name] = &value
	}
	return arguments, nil
}

// printObject writes one indented JSON object.
func (a *app) printObject(object any) error {
	var encoded bytes.Buffer
	encoder := json.NewEncoder(&encoded)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(object); err != nil {
		return err
	}
	_, err := a.Stdout.Write(visibleJSON(encoded.Bytes()))
	return err
}
