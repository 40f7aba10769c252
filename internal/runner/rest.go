package runner

import (
	"context"
	"math/rand/v2"
	"time"
)

// idleShare of the idle timeout is how long a session is silent at most: then it says something, so that only a hung process is silent for longer.
const idleShare = 3

// rest sleeps with a session that must not look dead, and reports whether it was woken.
func (e *Executor) rest(ctx context.Context, length time.Duration, wake <-chan struct{}) (woken bool, err error) {
	for began := time.Now(); time.Since(began) < length && ctx.Err() == nil; {
		if sleepUnless(ctx, min(length-time.Since(began), e.config.IdleTimeout/idleShare), wake) {
			return true, nil
		}
		if err := e.conn.Ping(ctx); err != nil && ctx.Err() == nil {
			return false, lost(err)
		}
	}
	return false, nil
}

// sleep waits for a length of time or until ctx ends.
func sleep(ctx context.Context, d time.Duration) { sleepUnless(ctx, d, nil) }

// sleepUnless sleeps, and reports whether it was woken.
func sleepUnless(ctx context.Context, d time.Duration, wake <-chan struct{}) (woken bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-wake:
		return true
	}
	return false
}

// jitter spreads runners that started together: between half of d and one and a half.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d+1)
}
