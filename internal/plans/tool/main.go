package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/bbm-runner/bbm-runner/internal/plans"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	c, err := plans.OpenCluster(ctx)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	defer c.Close()
	for _, d := range []struct {
		n string
		s plans.Scale
	}{{"tiny", plans.Scale{Migrations: 10, Spread: 9, Jobs: 10000}}, {"small", plans.Small}, {"large", plans.Large}} {
		start := time.Now()
		url, err := c.Database(ctx, d.n, d.s)
		fmt.Println(url, err, time.Since(start))
	}
	<-ctx.Done()
}
