package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Names of the sections that are no layout's.
const (
	sectionShare = "share"
	sectionLarge = "large"
)

// sectionNames are what --only takes: bigint is the base comparison.
func sectionNames() []string {
	names := []string{bigintLayout.name}
	for _, l := range variants() {
		names = append(names, l.name)
	}
	return append(names, sectionShare, sectionLarge)
}

// bench is one call of the harness.
type bench struct {
	options
	binary  *binary
	servers []*server
	machine machine
	began   time.Time
	elapsed time.Duration

	comparisons []*section // the base first, where it ran
	shares      []share
	noShares    error // why there are none
	large       *scaling
}

// run measures and writes the report; no server outlives it.
func run(ctx context.Context, o options) (err error) {
	folder, err := os.MkdirTemp("", "bbm-bench-")
	if err != nil {
		return err
	}
	b := &bench{options: o, began: time.Now()}
	defer func() { err = errors.Join(err, b.close(ctx), os.RemoveAll(folder)) }()
	if b.binary, err = buildBinary(ctx, folder); err != nil {
		return err
	}
	if o.cpuProfile != "" {
		return b.profile(ctx)
	}
	for _, measure := range []func(context.Context) error{b.compareLayouts, b.measureShares, b.measureScaling} {
		if err := measure(ctx); err != nil {
			return err
		}
	}
	b.elapsed = time.Since(b.began)
	return b.write(b.report())
}

func (b *bench) close(ctx context.Context) (err error) {
	for _, s := range b.servers {
		err = errors.Join(err, s.close(ctx))
	}
	return err
}

// start starts a server that lives until the end. The machine is described when the first one is there.
func (b *bench) start(ctx context.Context, settings map[string]string) (*server, error) {
	s, err := startServer(ctx, b.binary, settings)
	if err != nil {
		return nil, fmt.Errorf("start a server: %w", err)
	}
	b.servers = append(b.servers, s)
	if len(b.servers) == 1 {
		b.machine, err = describeMachine(ctx, s)
	}
	return s, err
}

// stop ends the latest server early, so that its memory and its disk are free for the next.
func (b *bench) stop(ctx context.Context) error {
	last := len(b.servers) - 1
	s := b.servers[last]
	b.servers = b.servers[:last]
	return s.close(ctx)
}

func (b *bench) progress(format string, values ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", values...)
}

// compareLayouts runs the base comparison and the variants that are wanted, each server for as long as it is needed.
func (b *bench) compareLayouts(ctx context.Context) error {
	base := &section{name: bigintLayout.name, layout: bigintLayout, rounds: b.runs, contenders: contenders()}
	few := selected(plainUpdate, serverLoop, clientLoop, fixedOne, adaptiveOne, adaptiveTwo)
	sections := []*section{base}
	for _, l := range variants() {
		sections = append(sections, &section{name: l.name, layout: l, rounds: b.variantRuns, contenders: few})
	}
	for _, s := range sections {
		if !b.wants(s.name) {
			continue
		}
		s.rows, s.repeats = b.rows, !b.quick
		if err := b.onServer(ctx, s.layout.settings, func(server *server) error { return s.compare(ctx, server, b.binary, b.progress) }); err != nil {
			return err
		}
		b.comparisons = append(b.comparisons, s)
	}
	return nil
}

// onServer calls do with a server that ends afterwards.
func (b *bench) onServer(ctx context.Context, settings map[string]string, do func(*server) error) error {
	s, err := b.start(ctx, settings)
	if err != nil {
		return err
	}
	if err := do(s); err != nil {
		return err
	}
	return b.stop(ctx)
}

// write writes the report, and keeps the notes that people have added to the one before.
func (b *bench) write(report string) error {
	if b.out == "-" {
		_, err := fmt.Fprint(os.Stdout, report)
		return err
	}
	before, err := os.ReadFile(b.out)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(b.out), 0o755); err != nil {
		return err
	}
	return os.WriteFile(b.out, []byte(report+notesOf(string(before))), 0o644)
}
