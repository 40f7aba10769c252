package cli

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// signals turns the first SIGINT, SIGTERM or SIGHUP into the end of a context. The second calls
// what a command has asked for; where none has, it kills the process as if it had never been
// caught. So does the third.
//
// SIGHUP never counts as a second one: a terminal that is closed sends it through the kernel and
// through its shell.
type signals struct {
	received chan os.Signal
	hangup   chan os.Signal
	done     chan struct{}
	cancel   context.CancelFunc

	mu     sync.Mutex
	second func()
}

func catchSignals(parent context.Context) (context.Context, *signals) {
	ctx, cancel := context.WithCancel(parent)
	s := &signals{received: make(chan os.Signal, 2), hangup: make(chan os.Signal, 1), done: make(chan struct{}), cancel: cancel}
	signal.Notify(s.received, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // under nohup it stays ignored
		signal.Notify(s.hangup, syscall.SIGHUP)
	}
	go s.watch(ctx)
	return ctx, s
}

// watch ends with release.
func (s *signals) watch(ctx context.Context) {
	select {
	case <-s.received:
	case <-s.hangup:
	case <-ctx.Done():
	case <-s.done:
		return
	}
	s.cancel()
	s.mu.Lock()
	second := s.second
	s.mu.Unlock()
	if second == nil {
		signal.Stop(s.received)
		return
	}
	select {
	case <-s.received:
		// Where even that takes too long, as with a server that does not answer, a third one kills.
		signal.Stop(s.received)
		second()
	case <-s.done:
	}
}

// onSecond says what the second signal does. To be called before the first one is expected.
func (s *signals) onSecond(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.second = fn
}

func (s *signals) release() {
	signal.Stop(s.received)
	signal.Stop(s.hangup)
	close(s.done)
	s.cancel()
}
