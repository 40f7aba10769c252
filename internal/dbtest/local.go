package dbtest

import (
	"context"

	"github.com/bbm-runner/bbm-runner/internal/localpg"
)

// openLocal starts a server from the binaries in binDir, or from the machine's own where it is empty.
func openLocal(ctx context.Context, binDir string) (*Server, error) {
	server, err := localpg.Start(ctx, localpg.Options{BinDir: binDir, Settings: serverSettings})
	if err != nil {
		return nil, err
	}
	return &Server{
		URL:    server.URL("postgres"),
		Source: "throwaway server from " + server.BinDir(),
		stop:   server.Stop,
	}, nil
}
