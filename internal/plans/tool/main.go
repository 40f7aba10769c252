// Command tool is what the Makefile runs to write the plans, to check the queries and to measure them:
//
//	tool write            writes queries/plans, from a kept local cluster with 10 million jobs
//	tool write -small     the same from the small seed, which yields the same plans
//	tool vet COMMAND...   runs sqlc vet with a database that has our schema
//	tool bench            measures claim, progress and record at 10 million jobs beside 10,000
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/bbm-runner/bbm-runner/internal/plans"
)

// root is the repository's, where make runs us.
const root = "."

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "plans:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case slices.Equal(args, []string{"write"}):
		return write(ctx, "large", plans.Large)
	case slices.Equal(args, []string{"write", "-small"}):
		return write(ctx, "small", plans.Small)
	case slices.Equal(args, []string{"bench"}):
		return bench(ctx)
	case len(args) > 1 && args[0] == "vet":
		return vet(ctx, args[1:])
	}
	return errors.New("usage: tool write [-small] | vet COMMAND... | bench")
}

func write(ctx context.Context, name string, scale plans.Scale) (err error) {
	queries, err := plans.ReadQueries(root)
	if err != nil {
		return err
	}
	cluster, err := plans.OpenCluster(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	if cluster.Version() != plans.Major {
		return fmt.Errorf("the committed plans are of PostgreSQL %d, and the binaries found are of %d: name others in %s",
			plans.Major, cluster.Version(), plans.BinVariable)
	}
	url, err := open(ctx, cluster, name, scale)
	if err != nil {
		return err
	}
	conn, err := plans.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	files, err := plans.RenderAll(ctx, conn, queries)
	if err != nil {
		return err
	}
	committed, err := plans.ReadFiles(plans.Dir(root))
	if err != nil {
		return err
	}
	if err := plans.WriteFiles(plans.Dir(root), files); err != nil {
		return err
	}
	for _, file := range plans.Differences(committed, files) {
		fmt.Println("changed:", file)
	}
	fmt.Println(len(files), "plans in", plans.Dir(root))
	return nil
}

// open loads the database where it is not there, and says how long that took.
func open(ctx context.Context, cluster *plans.Cluster, name string, scale plans.Scale) (string, error) {
	start := time.Now()
	url, err := cluster.Database(ctx, name, scale)
	if took := time.Since(start); err == nil && took > time.Second {
		fmt.Printf("loaded %d jobs in %s, to stay in %s\n", scale.Jobs, took.Round(time.Second), cluster.Dir())
	}
	return url, err
}
