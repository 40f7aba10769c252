package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/pprof"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/runner"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// profile runs a migration within this process, since a profile of the runner is of a process that can be asked for one.
func (b *bench) profile(ctx context.Context) error {
	return b.onServer(ctx, nil, func(server *server) (err error) {
		s := &section{name: "profile", layout: bigintLayout, rows: b.rows}
		if err := s.warmUp(ctx, server, b.binary); err != nil {
			return err
		}
		file, err := os.Create(b.cpuProfile)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		m, err := s.try(ctx, server, b.binary, contender{name: "profile", run: func(ctx context.Context, t *trial) error {
			return t.runWithin(ctx, migrationOptions{workers: b.workers, subBatchSize: b.subBatchSize}, file)
		}}, 1)
		if err != nil {
			return err
		}
		b.progress("%d rows in %.2f s; processor: server %.2f s, this process %.2f s; go tool pprof %s",
			b.rows, m.wall.Seconds(), m.cpu.server.Seconds(), m.cpu.client.Seconds(), b.cpuProfile)
		return nil
	})
}

// runWithin is runMigration without a process of its own.
func (t *trial) runWithin(ctx context.Context, o migrationOptions, profile *os.File) error {
	if err := t.enqueue(ctx, o); err != nil {
		return err
	}
	parsed, err := work.ParseFile(filepath.Join(t.binary.folder, workName+".sql"))
	if err != nil {
		return err
	}
	works, err := work.NewRegistry(parsed)
	if err != nil {
		return err
	}
	config, err := pgx.ParseConfig(t.server.URL("postgres"))
	if err != nil {
		return err
	}
	quiet := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	r, err := runner.New(config, works, runner.Config{Enabled: true, Workers: o.workers, Only: []string{t.name}, UntilIdle: true, Logger: quiet})
	if err != nil {
		return err
	}
	stop, err := t.watch(ctx)
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(profile); err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	err = r.Run(ctx)
	pprof.StopCPUProfile()
	return errors.Join(err, stop(ctx))
}
