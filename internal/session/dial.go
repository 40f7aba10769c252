package session

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// keepalives notice a peer that vanished without a word while nothing is on the way to it: 5 s, then twice 5 s. Both ends send them.
var keepalives = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 2}

// vanishedAfter ends a connection on which something sent is not acknowledged: then no keepalives are sent.
const vanishedAfter = 15 * time.Second

// answerFactor times the statement timeout is how long an answer may take. A round trip sends several statements, each of which the server ends after its
// timeout; that more than one of them takes long is a fault. Keepalives cannot notice a proxy or a server that lives and says nothing.
const answerFactor = 3

// errSilent is returned when an answer does not come. It is no net.Error with a timeout: the driver would keep such a connection.
var errSilent = errors.New("the server does not answer")

// dialer opens connections whose loss is noticed. limit bounds the wait for each answer; 0: no limit.
func dialer(connectTimeout, limit time.Duration) pgconn.DialFunc {
	dial := (&net.Dialer{Timeout: connectTimeout, KeepAliveConfig: keepalives, Control: setUserTimeout}).DialContext
	if limit == 0 {
		return dial
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &answering{Conn: conn, limit: limit}, nil
	}
}

// answering ends a read that takes too long. The driver reads only when an answer is due, so that an idle connection is never ended. Deadlines that the
// driver sets hold as well.
type answering struct {
	net.Conn
	limit time.Duration

	mu       sync.Mutex
	deadline time.Time // the driver's; zero: none
}

func (c *answering) Read(p []byte) (int, error) {
	due := time.Now().Add(c.limit)
	c.mu.Lock()
	if c.deadline.IsZero() || due.Before(c.deadline) {
		_ = c.Conn.SetReadDeadline(due)
	}
	c.mu.Unlock()
	n, err := c.Conn.Read(p)
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && !time.Now().Before(due) {
		return 0, fmt.Errorf("%w within %s", errSilent, c.limit)
	}
	return n, err
}

func (c *answering) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	return c.Conn.SetDeadline(t)
}

func (c *answering) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	return c.Conn.SetReadDeadline(t)
}
