package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// printTable writes rows under headings: with lines and colours for a person, as plain aligned columns for a pipe.
func (a *app) printTable(w io.Writer, headings []string, rows [][]string) {
	if !isTerminal(w) {
		columns := newColumns(w, headings)
		columns.print(rows)
		return
	}
	t := table.NewWriter()
	t.SetOutputMirror(w)
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.SetAllowedRowLength(width(w))
	coloured := a.isColoured(w)
	t.AppendHeader(tableRow(headings, coloured))
	for i, row := range rows {
		for j, cell := range row {
			rows[i][j] = asShownOn(w, cell)
		}
	}
	for _, row := range fitted(headings, rows, width(w)) {
		t.AppendRow(tableRow(row, coloured))
	}
	t.Render()
}

// leastWidth is what the last column keeps on a narrow terminal.
const leastWidth = 20

// fitted clips the last column, which holds free text, so that the rows fit that many columns of a terminal; 0 is no limit.
func fitted(headings []string, rows [][]string, columns int) [][]string {
	if columns == 0 {
		return rows
	}
	last := len(headings) - 1
	for i := range last {
		widest := columnsOf(headings[i])
		for _, row := range rows {
			widest = max(widest, columnsOf(visible(row[i])))
		}
		columns -= widest + len("|  ")
	}
	columns = max(columns-len("|  |"), leastWidth)
	clipped := make([][]string, len(rows))
	for i, row := range rows {
		clipped[i] = append(row[:last:last], clip(visible(row[last]), columns))
	}
	return clipped
}

// tableRow colours the cells that hold a status.
func tableRow(cells []string, coloured bool) table.Row {
	row := make(table.Row, len(cells))
	for i, cell := range cells {
		cell = visible(cell)
		row[i] = cell
		if colour, ok := statusColours[cell]; ok && coloured {
			row[i] = colour.Sprint(cell)
		}
	}
	return row
}

// statusColours are those of migrations and jobs alike.
var statusColours = map[string]text.Color{
	"running":   text.FgCyan,
	"finished":  text.FgGreen,
	"succeeded": text.FgGreen,
	"failed":    text.FgRed,
	"paused":    text.FgYellow,
	"cancelled": text.FgHiBlack,
}

// columns writes aligned columns page by page, so that a million rows need no more memory than a page. A page may widen a column, never
// narrow one.
type columns struct {
	w        io.Writer
	headings []string
	widths   []int
}

func newColumns(w io.Writer, headings []string) *columns {
	return &columns{w: w, headings: headings, widths: make([]int, len(headings))}
}

func (c *columns) print(rows [][]string) {
	if c.headings != nil {
		rows = append([][]string{c.headings}, rows...)
		c.headings = nil
	}
	for _, row := range rows {
		for i, cell := range row {
			cell = asShownOn(c.w, visible(cell))
			row[i] = cell
			c.widths[i] = max(c.widths[i], columnsOf(cell))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			if i > 0 {
				line.WriteString("  ")
			}
			line.WriteString(cell)
			line.WriteString(strings.Repeat(" ", c.widths[i]-columnsOf(cell)))
		}
		fmt.Fprintln(c.w, strings.TrimRight(line.String(), " "))
	}
}
