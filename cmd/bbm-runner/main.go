// Command bbm-runner runs batched background migrations on PostgreSQL; see the README.
package main

import (
	"context"
	"os"

	"github.com/bbm-runner/bbm-runner/internal/cli"
)

// version is set by the linker (make build).
var version string

func main() {
	os.Exit(cli.Run(context.Background(), cli.Program{Version: version, Args: os.Args[1:]}))
}
