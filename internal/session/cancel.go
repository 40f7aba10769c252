package session

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// A cancel request that meets a COMMIT ends its wait for a synchronous standby, and what was to be
// replicated first is visible at once. So no statement is cancelled that may commit: all of them,
// but for those that run under a context marked by [Cancellable].

type cancellable struct{}

// Cancellable marks a context for statements that commit nothing: reads, and what runs within a
// transaction that is committed under another context. They are cancelled when it ends, and the
// connection lives on. Without the mark they may go on for a while, and then the connection is
// closed.
func Cancellable(ctx context.Context) context.Context {
	return context.WithValue(ctx, cancellable{}, true)
}

const (
	// cancelGrace is how long a cancelled statement may take to end before its connection is given up.
	cancelGrace = 10 * time.Second
	// defaultCommitGrace is how long one that must not be cancelled may go on once its context was.
	defaultCommitGrace = 10 * time.Second
)

// watcher is told by the driver when the context of a statement has ended.
type watcher struct {
	request pgconn.CancelRequestContextWatcherHandler
	gate    *cancelGate
	grace   time.Duration
	asked   bool // a cancel request is under way
}

// HandleCancel cancels what may be cancelled. All else gets its grace, unless its context had a
// deadline, which was one.
func (w *watcher) HandleCancel(ctx context.Context) {
	if w.asked = ctx.Value(cancellable{}) != nil; w.asked {
		w.gate.isOpen.Store(true)
		w.request.HandleCancel(ctx)
		return
	}
	until := time.Now()
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		until = until.Add(w.grace)
	}
	_ = w.request.Conn.Conn().SetDeadline(until)
}

// HandleUnwatchAfterCancel is called when the statement has ended after all.
func (w *watcher) HandleUnwatchAfterCancel() {
	if w.asked {
		w.request.HandleUnwatchAfterCancel()
		w.gate.isOpen.Store(false)
		return
	}
	_ = w.request.Conn.Conn().SetDeadline(time.Time{})
}

// cancelGate lets the driver dial for a connection, and later for the cancel requests that watcher
// wants: it would send one too whenever it gives a connection up, whatever is under way on it.
type cancelGate struct {
	dial   pgconn.DialFunc
	isOpen atomic.Bool
}

var errNotCancelled = errors.New("no statement is cancelled that may commit")

func (g *cancelGate) dialOpen(ctx context.Context, network, address string) (net.Conn, error) {
	if !g.isOpen.Load() {
		return nil, errNotCancelled
	}
	return g.dial(ctx, network, address)
}
