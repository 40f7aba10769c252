package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bbm-runner/bbm-runner/internal/preview"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// printExplanation writes what would run, in the order in which a reviewer asks.
func (a *app) printExplanation(e *preview.Explanation) {
	subBatch := fmt.Sprintf("%s rows", count(int64(e.SubBatchSize)))
	if e.IsAdaptive {
		subBatch += " at first (chosen by the runner)"
	}
	lines := [][2]string{
		{"migration", optional(e.Migration, verbatim)},
		{"work", e.Work + "  " + e.Checksum},
		{"arguments", argumentValues(e.Arguments)},
		{"table", e.Table},
		{"cursor", cursorText(e)},
		{"scope", optional(e.Scope, verbatim)},
		{"rows", "~" + count(e.Rows)},
		{"jobs", fmt.Sprintf("~%s of %s rows", count(e.Jobs), count(int64(e.BatchSize)))},
		{"sub-batches", fmt.Sprintf("~%s of %s", count(e.SubBatches), subBatch)},
		{"range shown", rangeText(e.Range)},
		{"", foundText(e.Range)},
		{"role", e.Role},
	}
	for i, s := range e.Settings {
		label := ""
		if i == 0 {
			label = "settings"
		}
		lines = append(lines, [2]string{label, s.Name + " = " + s.Value})
	}
	a.printLabelled(lines)
	if e.Boundary != nil {
		a.printStatement("BOUNDARY QUERY: finds where a sub-batch ends", e.Boundary)
	}
	if e.Statement != nil {
		a.printStatement("WORK STATEMENT: changes the rows of a sub-batch", e.Statement)
	}
	for _, p := range e.Sizes {
		if len(p.ReadsMore) > 0 {
			fmt.Fprintf(a.lines(), "\nITS PLAN FOR %s ROWS: reads all of %s\n%s\n", count(p.Rows), listed(p.ReadsMore), indented(p.PlanText))
		}
	}
	if e.Remaining != nil {
		a.printStatement("LOOK FOR WHAT REMAINS: reads a piece of the walk that proves the work done", e.Remaining)
	}
	for _, w := range e.Writes {
		a.printWrite(w)
	}
	a.printWarnings("WARNINGS", e.Warnings)
}

// printLabelled writes a label and a value a line; values that are empty are left out.
func (a *app) printLabelled(lines [][2]string) {
	for _, line := range lines {
		if line[1] != "" {
			fmt.Fprintln(a.lines(), strings.TrimRight(fmt.Sprintf("%-13s  %s", line[0], line[1]), " "))
		}
	}
}

func cursorText(e *preview.Explanation) string {
	text := work.WriteNames(e.Cursor)
	if len(e.CursorIndex) > 0 {
		text += ", by the index " + listed(e.CursorIndex)
	}
	return text
}

// listed joins names, of which there may be one for each partition.
func listed(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

func rangeText(r *preview.Range) string {
	if r == nil {
		return ""
	}
	after := "from the beginning"
	if r.After != nil {
		after = "above " + keyText(r.After)
	}
	return fmt.Sprintf("%s up to %s: %s rows from the middle", after, keyText(r.Until), count(r.Rows))
}

func foundText(r *preview.Range) string {
	if r == nil {
		return ""
	}
	return r.Found
}

func argumentValues(arguments work.Arguments) string {
	var values []string
	for _, name := range slices.Sorted(maps.Keys(arguments)) {
		values = append(values, name+" = "+parameter(orNil(arguments[name])))
	}
	return strings.Join(values, ", ")
}

func orNil(text *string) any {
	if text == nil {
		return nil
	}
	return *text
}

func (a *app) printStatement(title string, s *preview.Statement) {
	fmt.Fprintf(a.lines(), "\n%s\n", title)
	if s.Before != nil {
		fmt.Fprintf(a.lines(), "%s;\n", indented(*s.Before))
	}
	fmt.Fprintf(a.lines(), "%s;\n", indented(s.SQL))
	var values []string
	for i, value := range s.Parameters {
		values = append(values, fmt.Sprintf("$%d = %s", i+1, parameter(value)))
	}
	fmt.Fprintf(a.lines(), "  -- %s\n\n%s\n", strings.Join(values, ", "), indented(s.PlanText))
}

// parameter writes a value so that a text and a number are told apart, on one line.
func parameter(value any) string {
	switch value := value.(type) {
	case nil:
		return "NULL"
	case string:
		return "'" + clip(strings.ReplaceAll(value, "'", "''"), longText) + "'"
	}
	return fmt.Sprint(value)
}

func indented(text string) string { return "  " + strings.ReplaceAll(text, "\n", "\n  ") }

// printWrite tells what a write to one table drags along.
func (a *app) printWrite(w preview.Write) {
	title := fmt.Sprintf("%s: %s", w.Table, w.Operation)
	if len(w.Columns) > 0 {
		title += " of " + work.WriteNames(w.Columns)
	}
	fmt.Fprintf(a.lines(), "\n%s\n", title)
	if w.HOT != nil {
		fmt.Fprintf(a.lines(), "  HOT           %s\n", w.HOT.Meaning)
	}
	for _, i := range w.Indexes {
		note := ""
		if i.IsChanged {
			note = "  -- changes"
		}
		fmt.Fprintf(a.lines(), "  index         %s%s\n", i.Definition, note)
	}
	for _, t := range w.Triggers {
		note := ""
		if !t.IsEnabled {
			note = ", disabled"
		}
		if t.IsDefiner {
			note += ", with the rights of its owner"
		}
		fmt.Fprintf(a.lines(), "  trigger       %s on %s: %s, %s%s\n", t.Name, t.Table, t.Function, t.Timing, note)
	}
	for _, k := range w.ForeignKeys {
		note := ""
		if k.Direction == "incoming" {
			note = ", " + k.Action
		}
		if k.IsDeferred {
			note += ", checked at commit"
		}
		if !k.IsValidated {
			note += ", not valid"
		}
		fmt.Fprintf(a.lines(), "  foreign key   %s: %s (%s) to %s (%s)%s\n", k.Name,
			k.Table, work.WriteNames(k.Columns), k.ReferencedTable, work.WriteNames(k.ReferencedColumns), note)
	}
}

func (a *app) printWarnings(title string, warnings []preview.Warning) {
	if len(warnings) == 0 {
		return
	}
	fmt.Fprintf(a.lines(), "\n%s\n", title)
	for _, w := range warnings {
		fmt.Fprintf(a.lines(), "  - %s [%s]\n", w.Message, w.Code)
	}
}
