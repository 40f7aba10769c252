package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/bbm-runner/bbm-runner/internal/preview"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// Each sample leaves dead rows behind, so there are few by default, and never many.
const (
	defaultSampleBatches = 2
	mostSampleBatches    = 100
	mostSamplePlaces     = 20
)

func (a *app) newSampleCommand() *cobra.Command {
	var (
		pairs                 []string
		at                    string
		batches, subBatchSize int
		asJSON                bool
	)
	cmd := &cobra.Command{
		Use:   "sample WORK",
		Short: "Execute a few sub-batches, roll them back, and tell what they cost",
		Long: `Executes real sub-batches at several places of the table, each in a transaction that is rolled back, under the lock and statement timeouts of a run. From what
they cost it recommends a sub-batch size and estimates the whole run. It gives up when others hold a lock for too long, and says who.

A rollback leaves dead row versions until VACUUM. A work in Go that declares external effects is refused.`,
		Example: fmt.Sprintf(`  %[1]s sample users_email_lower --arg domain=example.com
  %[1]s sample users_email_lower --at 0.25,0.75 --batches 3 --sub-batch-size 5000 --json`, a.Name),
		Args:              takes("WORK"),
		ValidArgsFunction: a.completeWorks,
		RunE: func(cmd *cobra.Command, args []string) error {
			arguments, err := workArguments(pairs)
			if err != nil {
				return err
			}
			o := preview.SampleOptions{Batches: batches}
			if o.Shares, err = readShares(at); err != nil {
				return err
			}
			if batches < 1 || batches > mostSampleBatches {
				return usagef("--batches is %d; give 1 to %d: each leaves dead rows behind", batches, mostSampleBatches)
			}
			return a.sample(cmd.Context(), args[0], arguments, given(cmd, "sub-batch-size", &subBatchSize), o, asJSON)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&pairs, "arg", nil, "argument of the work, as `key=value`; repeatable")
	flags.StringVar(&at, "at", "0,0.5,1", "`places` in the table, from 0 (the beginning) to 1 (the end)")
	flags.IntVar(&batches, "batches", defaultSampleBatches, "sub-batches at each place, one behind the other")
	flags.IntVar(&subBatchSize, "sub-batch-size", 0, "`rows` of a sub-batch (default the work's, else 1000)")
	flags.BoolVar(&asJSON, "json", false, "print one object")
	return cmd
}

// readShares reads --at.
func readShares(text string) ([]float64, error) {
	var shares []float64
	for each := range strings.SplitSeq(text, ",") {
		share, err := strconv.ParseFloat(strings.TrimSpace(each), 64)
		// Not a number is no number from 0 to 1 either.
		if err != nil || !(share >= 0 && share <= 1) {
			return nil, usagef("--at: %q is no place; give numbers from 0 (the beginning) to 1 (the end), as in 0,0.5,1", each)
		}
		shares = append(shares, share)
	}
	if len(shares) > mostSamplePlaces {
		return nil, usagef("--at names %d places; give at most %d", len(shares), mostSamplePlaces)
	}
	return shares, nil
}

func (a *app) sample(ctx context.Context, name string, arguments work.Arguments, size *int, o preview.SampleOptions, asJSON bool) error {
	works, err := a.registryFor(name)
	if err != nil {
		return err
	}
	w, ok := works.Get(name)
	if !ok {
		return noSuchWork(works, name, "")
	}
	s := preview.Subject{Work: w, Arguments: arguments}
	if size != nil {
		if most := s.JobSize(); *size < 1 || *size > most {
			return inputf("--sub-batch-size is %d; give 1 to %d, the rows of a job", *size, most)
		}
		s.SubBatchSize = *size
	}
	o.LockTimeout, o.StatementTimeout = a.config.LockTimeout, a.config.StatementTimeout
	return a.withConn(ctx, func(conn *pgx.Conn) error {
		return a.withConn(ctx, func(watcher *pgx.Conn) error {
			o.Watcher = watcher
			sampled, err := preview.Sample(ctx, conn, s, o)
			if errors.Is(err, preview.ErrExternalEffects) {
				return &inputError{err}
			}
			if err != nil {
				return err
			}
			if asJSON {
				return a.printObject(sampled)
			}
			a.printSampling(sampled)
			return nil
		})
	})
}

var sampleHeadings = []string{"AT", "#", "AFTER", "ROWS", "CHANGED", "HOT", "TIME", "BOUNDARY", "TRIGGERS", "HIT", "READ", "DIRTIED", "WAL", "PAGE IMAGES"}

func (a *app) printSampling(s *preview.Sampling) {
	a.printLabelled([][2]string{
		{"work", s.Work + "  " + s.Checksum},
		{"arguments", argumentValues(s.Arguments)},
		{"table", fmt.Sprintf("%s, ~%s rows", s.Table, count(s.Rows))},
		{"sub-batch", count(int64(s.SubBatchSize)) + " rows"},
		{"timeouts", fmt.Sprintf("lock %s, statement %s", a.config.LockTimeout, a.config.StatementTimeout)},
		{"places", s.Found},
	})
	fmt.Fprintln(a.lines())
	var rows [][]string
	for _, one := range s.SubBatches {
		rows = append(rows, sampleCells(one))
	}
	if s.Tried != nil {
		for _, one := range s.Tried.SubBatches {
			rows = append(rows, sampleCells(one))
		}
	}
	a.printTable(a.Stdout, sampleHeadings, rows)
	if r := s.Recommendation; r != nil {
		whole := fmt.Sprintf("about %s in %s sub-batches of that size", span(time.Duration(r.Seconds*float64(time.Second))), count(r.SubBatches))
		if r.WALBytes != nil {
			whole += fmt.Sprintf(", %s of WAL", byteSize(*r.WALBytes))
		}
		fmt.Fprintln(a.lines())
		a.printLabelled([][2]string{
			{"recommended", fmt.Sprintf("sub_batch_size %s, for %s at the slowest place", count(int64(r.SubBatchSize)), preview.Target)},
			{"whole run", whole},
		})
	}
	a.printWarnings("NOTES", s.Notes)
}

func sampleCells(one preview.SubBatch) []string {
	after := "-"
	if one.After != nil {
		after = clip(keyText(one.After), 40)
	}
	cells := []string{
		strconv.FormatFloat(one.At, 'f', -1, 64), fmt.Sprint(one.Number), after, count(one.ProcessedRows), count(one.AffectedRows), "-",
		millis(one.Duration), millis(one.Boundary), "-", "-", "-", "-", "-", "-",
	}
	if one.UpdatedRows > 0 {
		cells[5] = percent(float64(one.HOTRows) / float64(one.UpdatedRows))
	}
	if len(one.Triggers) > 0 {
		total := 0.0
		for _, t := range one.Triggers {
			total += t.Time
		}
		cells[8] = millis(total)
	}
	if one.Buffers != nil {
		cells[9], cells[10], cells[11] = count(one.Buffers.Hit), count(one.Buffers.Read), count(one.Buffers.Dirtied)
	}
	if one.WAL != nil {
		cells[12], cells[13] = byteSize(one.WAL.Bytes), count(one.WAL.Images)
	}
	return cells
}

// millis writes milliseconds with what can be felt of them.
func millis(ms float64) string { return fmt.Sprintf("%.1f ms", ms) }

// byteSize writes a size in the unit that leaves one to four digits.
func byteSize(n int64) string {
	size, unit := float64(n), 0
	units := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	for size >= 10_000 && unit < len(units)-1 {
		size /= 1024
		unit++
	}
	return fmt.Sprintf("%.0f %s", size, units[unit])
}
