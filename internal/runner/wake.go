package runner

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/bbm-runner/bbm-runner/internal/session"
)

const (
	// wakeChannel is notified when something can be done at once: enqueue, resume, retry, enable, a slot that is free. Polling remains the safety net.
	wakeChannel = "bbm_wake"
	// closeTimeout is for saying goodbye to a server that may be gone.
	closeTimeout = time.Second
)

// broadcast wakes all that wait. It is safe for concurrent use.
type broadcast struct {
	mu sync.Mutex
	c  chan struct{}
}

func newBroadcast() *broadcast { return &broadcast{c: make(chan struct{})} }

// next is closed by the next call of send. Take it before looking for something to do, so that nothing is missed in between.
func (b *broadcast) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.c
}

func (b *broadcast) send() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.c)
	b.c = make(chan struct{})
}

// listen passes notifications on to the executors until ctx ends, on a connection of its own: an executor's is for its work.
func (r *Runner) listen(ctx context.Context) {
	for ctx.Err() == nil {
		if err := r.listenOnce(ctx); err != nil && ctx.Err() == nil {
			r.config.Logger.Debug("not listening; polling goes on", "error", err)
			sleep(ctx, jitter(r.config.PollInterval))
		}
	}
}

func (r *Runner) listenOnce(ctx context.Context) error {
	conn, err := session.Listen(ctx, r.connConfig, wakeChannel)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	// What was notified while nobody listened is found by looking.
	r.wake.send()
	for {
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return fmt.Errorf("wait for notification: %w", err)
		}
		r.wake.send()
	}
}
