package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
)

// stopLimit is how long a runner may take to end after SIGTERM: its grace and the recording of how its jobs ended, each within the limits that
// internal/runner has for a server that does not answer.
const stopLimit = 45 * time.Second

// unit is a runner that is started again whenever it ends, as systemd or Kubernetes would, behind a network of its own.
type unit struct {
	round   *round
	number  int
	workers int
	proxy   *dbtest.Proxy
	url     string

	mu    sync.Mutex
	child *child
	lives int
}

func (r *round) newUnit(number, workers int) (*unit, error) {
	proxy, err := dbtest.StartProxy(r.url)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(proxy.URL())
	if err != nil {
		return nil, err
	}
	query := u.Query()
	query.Set("application_name", applicationName(number))
	u.RawQuery = query.Encode()
	return &unit{round: r, number: number, workers: workers, proxy: proxy, url: u.String()}, nil
}

// applicationName tells a runner's sessions from those of others.
func applicationName(number int) string { return fmt.Sprintf("tortured runner %d", number) }

// keep starts the runner again and again until ctx ends, and then stops it.
func (u *unit) keep(ctx context.Context) {
	for ctx.Err() == nil {
		if err := u.live(ctx); err != nil {
			u.round.complain(&u.round.other, "runner %d: %s", u.number, err)
			return
		}
		pause(ctx, time.Duration(rand.IntN(200))*time.Millisecond)
	}
}

// live is one life of the runner. An end that nobody has asked for is an error, unless it found no server when it was started.
func (u *unit) live(ctx context.Context) error {
	u.lives++
	path := filepath.Join(u.round.dir, fmt.Sprintf("runner-%d-%03d.log", u.number, u.lives))
	log, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	isHard := u.round.isHard.Load()
	child, err := start(u.round.program.command(u.url, u.round.works, "run", "--workers", strconv.Itoa(u.workers)), log)
	if err != nil {
		return err
	}
	u.mu.Lock()
	u.child = child
	u.mu.Unlock()
	select {
	case <-child.done:
	case <-ctx.Done():
		err = child.stop(stopLimit)
	}
	text, readErr := os.ReadFile(path)
	if readErr != nil {
		return readErr
	}
	for _, trouble := range []string{"panic:", "fatal error:", "DATA RACE"} {
		if bytes.Contains(text, []byte(trouble)) && err == nil {
			return fmt.Errorf("%s in %s", trouble, path)
		}
	}
	hasRun := bytes.Contains(text, []byte("worker="))
	switch {
	case err != nil:
		return fmt.Errorf("%w; see %s", err, path)
	case child.killed, child.code() == 0 && child.asked:
		return nil
	case !hasRun && (isHard || child.asked):
		return nil
	}
	return fmt.Errorf("it has ended by itself or with an error, exit code %d; see %s", child.code(), path)
}

// free is the process, if it runs and nobody has asked it to end.
func (u *unit) free() *child {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.child.isFree() {
		return u.child
	}
	return nil
}

// signal reports whether there was a process to receive it.
func (u *unit) signal(s syscall.Signal) bool {
	child := u.free()
	if child == nil {
		return false
	}
	if s == syscall.SIGTERM {
		// One that is frozen could not end.
		return child.signal(syscall.SIGCONT) && child.signal(s)
	}
	return child.signal(s)
}

// pause waits for a length of time, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
