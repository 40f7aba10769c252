package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/bbm-runner/bbm-runner/internal/control"
	"github.com/bbm-runner/bbm-runner/internal/session"
)

const (
	demoRows  = 1_000_000
	demoJobs  = 20 // so that every run shows a few, whatever its size
	demoWork  = "accounts_add_interest"
	demoPause = time.Second // long enough to be seen
	demoLook  = 20 * time.Millisecond
)

// demoSource is a work that shows when it runs twice on a row.
const demoSource = `-- description: Credit one cent of interest to every account. Not idempotent: done twice, it shows.
-- table: %[1]s.accounts
-- cursor: id

-- +bbm Work
UPDATE %[1]s.accounts AS a
   SET balance = balance + 1
 WHERE @batch(a);
`

func (a *app) newDemoCommand() *cobra.Command {
	rows := demoRows
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See it all on a throwaway database: a million rows, a pause, a killed worker, the proof",
		Long: `Starts a PostgreSQL server of its own in a temporary folder, from the binaries on this machine, and runs a migration on a million rows: paused
and resumed on the way, its worker killed with SIGKILL and replaced. Then it proves from the data and the history that every row was changed exactly
once. Everything is removed at the end, also on Ctrl-C and when the terminal is closed.

With --database-url it uses that server instead, and a schema of its own there.`,
		Example: fmt.Sprintf(`  %[1]s demo
  %[1]s demo --database-url postgres://postgres@localhost/scratch`, a.Name),
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if rows < 1000 {
				return usagef("--rows must be at least 1000")
			}
			return a.demo(cmd.Context(), rows)
		},
	}
	cmd.Flags().IntVar(&rows, "rows", rows, "rows of the table (`N`)")
	return cmd
}

// demo is one telling of the story.
type demo struct {
	*app
	rows    int
	folder  string // of the work file and the worker's log
	url     string
	schema  string // of the demo's tables
	name    string // of the migration
	control *control.Control
}

func (a *app) demo(ctx context.Context, rows int) (err error) {
	folder, err := os.MkdirTemp("", "bbm-demo-")
	if err != nil {
		return err
	}
	defer func() {
		if removeErr := os.RemoveAll(folder); err == nil {
			err = removeErr
		}
	}()
	// A reader that goes away, as head does, would kill the process at its next line, and the
	// server and its files would stay.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGPIPE)
	defer stop()
	ctx = session.Cancellable(ctx) // what it commits may well be undone: it is removed at the end
	d := &demo{app: a, rows: rows, folder: folder}
	return d.onServer(ctx, func() error {
		return a.withConn(ctx, func(conn *pgx.Conn) error {
			return d.inSchema(ctx, conn, func() error {
				err := d.tell(ctx)
				if ctx.Err() != nil {
					return ctx.Err() // whatever a cancelled statement says
				}
				return err
			})
		})
	})
}

// tell is the story from the table to the proof.
func (d *demo) tell(ctx context.Context) error {
	if err := d.fill(ctx); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.folder, demoWork+".sql"), fmt.Appendf(nil, demoSource, d.schema), 0o600); err != nil {
		return err
	}
	if err := d.enqueue(ctx); err != nil {
		return err
	}
	if err := d.watchRun(ctx); err != nil {
		return err
	}
	return d.prove(ctx)
}

// fill makes the accounts, and a twin of them for the plain UPDATE.
func (d *demo) fill(ctx context.Context) error {
	for _, step := range []struct{ what, sql string }{
		{"", `SET statement_timeout = 0`}, // single statements over all rows are what is compared
		{"", `CREATE TABLE {schema}.accounts (id bigint PRIMARY KEY, balance bigint NOT NULL, owner text NOT NULL)`},
		{
			"Filling {schema}.accounts with {count} rows",
			`INSERT INTO {schema}.accounts SELECT g, 0, repeat(md5(g::text), 2) FROM generate_series(1, {rows}) AS g`,
		},
		{"", `CREATE TABLE {schema}.twins (LIKE {schema}.accounts INCLUDING ALL)`},
		{"Copying them for a plain UPDATE, to compare with", `INSERT INTO {schema}.twins SELECT * FROM {schema}.accounts ORDER BY id`},
		{"VACUUM ANALYZE of both", `VACUUM ANALYZE {schema}.accounts, {schema}.twins`},
	} {
		filled := strings.NewReplacer("{schema}", d.schema, "{rows}", strconv.Itoa(d.rows), "{count}", count(int64(d.rows)))
		do := func() error {
			_, err := d.control.Conn.Exec(ctx, filled.Replace(step.sql))
			return err
		}
		if step.what != "" {
			do = d.timed(filled.Replace(step.what), do)
		}
		if err := do(); err != nil {
			return fmt.Errorf("fill the demo's tables: %w", err)
		}
	}
	return nil
}

func (d *demo) enqueue(ctx context.Context) error {
	works, err := d.demoWorks()
	if err != nil {
		return err
	}
	d.control.Works = works
	batchSize, subBatchSize := d.rows/demoJobs, min(1000, d.rows/demoJobs)
	result, err := d.control.Enqueue(ctx, control.EnqueueOptions{Work: demoWork, Name: d.name, BatchSize: &batchSize, SubBatchSize: &subBatchSize})
	if err != nil {
		return err
	}
	d.say("Enqueued %s: jobs of %s rows, transactions of %s", result.Name, count(int64(batchSize)), count(int64(subBatchSize)))
	return nil
}
