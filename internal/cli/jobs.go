package cli

import (
	"bufio"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bbm-runner/bbm-runner/internal/control"
)

func (a *app) newJobsCommand() *cobra.Command {
	var (
		status string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "jobs NAME",
		Short: "List the jobs of a migration",
		Example: fmt.Sprintf(`  %[1]s jobs users_email_lower --status failed
  %[1]s jobs users_email_lower --json`, a.Name),
		Args:              takes("NAME"),
		ValidArgsFunction: a.completeMigrations(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withControl(cmd.Context(), nil, func(c *control.Control) error {
				return a.streamRows(asJSON, jobHeadings, func(out *rows) error {
					return c.Jobs(cmd.Context(), args[0], status, func(jobs []control.Job) error {
						return addRows(out, jobs, jobCells)
					})
				})
			})
		},
	}
	cmd.Flags().StringVar(&status, "status", "", "only those that are pending, running, failed or succeeded")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print an array of rows under the names of the table's columns")
	_ = cmd.RegisterFlagCompletionFunc("status", cobra.FixedCompletions(
		[]cobra.Completion{"pending", "running", "failed", "succeeded"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

var jobHeadings = []string{"ID", "STATUS", "AFTER", "UNTIL", "ROWS", "CHANGED", "FAILURES", "STARTED", "TOOK", "ERROR"}

func jobCells(j control.Job) []string {
	took := ""
	if j.StartedAt != nil && j.FinishedAt != nil {
		took = span(j.FinishedAt.Sub(*j.StartedAt))
	}
	return []string{
		fmt.Sprint(j.ID), j.Status, keyText(j.AfterKey), keyText(j.UntilKey), count(j.ProcessedRows), count(j.AffectedRows),
		fmt.Sprint(j.Attempts), optional(j.StartedAt, instant), took,
		exceptionText(j.ExceptionClass, j.ExceptionKey, j.ExceptionConstraint, j.ExceptionMessage),
	}
}

// exceptionText is what went wrong, on one line: check_violation on (4711), constraint balance_check: new row for …
func exceptionText(class *string, key []string, constraint, message *string) string {
	text := optional(class, verbatim)
	if key != nil {
		text += fmt.Sprintf(" on (%s)", clip(keyText(key), longKey))
	}
	if constraint != nil {
		text += ", constraint " + *constraint
	}
	if message != nil {
		text += ": " + clip(*message, longText)
	}
	return text
}

// rows is where pages of rows are written to as they come.
type rows struct {
	array   *jsonArray // nil: columns
	columns *columns
}

// streamRows gives fill a place to write to, and completes what it wrote. Rows are never held beyond their page.
func (a *app) streamRows(asJSON bool, headings []string, fill func(out *rows) error) error {
	buffered := bufio.NewWriter(a.Stdout)
	out := &rows{columns: newColumns(buffered, headings)}
	if asJSON {
		out.array = &jsonArray{w: buffered}
	}
	if err := fill(out); err != nil {
		return errors.Join(err, buffered.Flush())
	}
	if asJSON {
		if err := out.array.end(); err != nil {
			return err
		}
	} else {
		out.columns.print(nil)
	}
	return buffered.Flush()
}

func addRows[T any](out *rows, page []T, cells func(T) []string) error {
	if out.array == nil {
		lines := make([][]string, len(page))
		for i, row := range page {
			lines[i] = cells(row)
		}
		out.columns.print(lines)
		return nil
	}
	for _, row := range page {
		if err := out.array.add(row); err != nil {
			return err
		}
	}
	return nil
}
