package main

import (
	"context"
	"fmt"
	"os"

	"github.com/bbm-runner/bbm-runner/internal/plans"
)

func main() {
	ctx := context.Background()
	conn, err := plans.Connect(ctx, os.Args[1])
	if err != nil {
		panic(err)
	}
	qs, err := plans.ReadQueries("/work/main")
	if err != nil {
		panic(err)
	}
	os.MkdirAll(os.Args[2], 0o755)
	for _, q := range qs {
		text, err := plans.Explain(ctx, conn, q)
		if err != nil {
			fmt.Println(q.Name, err)
			continue
		}
		os.WriteFile(os.Args[2]+"/"+q.Name+".txt", []byte(text), 0o644)
	}
}
