package dbtest

import (
	"context"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Direction is one of the two ways through a [Proxy].
type Direction int

// The two ways through a proxy.
const (
	ToServer Direction = iota
	ToClient
)

type fault int

const (
	healthy fault = iota
	stalled
	swallowing
)

// Proxy is a TCP proxy on loopback in front of a server, which a test makes misbehave. Faults apply to connections that are open and to those that
// come while they last; without a direction they apply to both. Its methods may be called from several goroutines.
type Proxy struct {
	url      string
	config   *pgx.ConnConfig
	listener net.Listener

	mu      sync.Mutex
	faults  [2]fault
	delays  [2]time.Duration
	changed chan struct{} // closed, and made again, when a fault begins or ends
	links   map[*link]bool
	watches []*watch
	running sync.WaitGroup
	ended   bool
	end     chan struct{} // closed when the proxy ends
	once    sync.Once
}

// NewProxy starts a proxy in front of the server of a URL; it ends with the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p, err := StartProxy(target)
	if err != nil {
		t.Fatalf("start a proxy: %v", err)
	}
	t.Cleanup(p.Close)
	return p
}

// StartProxy is [NewProxy] for what outlives a test: whoever starts it closes it.
func StartProxy(target string) (*Proxy, error) {
	config, err := pgx.ParseConfig(target)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	u.Host = listener.Addr().String()
	p := &Proxy{url: u.String(), config: config, listener: listener, changed: make(chan struct{}), links: make(map[*link]bool), end: make(chan struct{})}
	p.running.Go(p.accept)
	return p, nil
}

// URL is the target's URL, by way of the proxy.
func (p *Proxy) URL() string { return p.url }

// Stall keeps connections open and forwards nothing: what is sent waits until Heal, the end of a connection too.
func (p *Proxy) Stall(directions ...Direction) { p.begin(stalled, directions) }

// Swallow reads and drops. A connection that has lost bytes stays deaf in that direction after Heal, for its end too, as one does that a firewall has
// forgotten.
func (p *Proxy) Swallow(directions ...Direction) { p.begin(swallowing, directions) }

// Delay forwards each piece so much later; 0 ends that.
func (p *Proxy) Delay(d time.Duration, directions ...Direction) {
	p.change(func() {
		for _, direction := range orBoth(directions) {
			p.delays[direction] = d
		}
	})
}

// Reset cuts the open connections off with RST, those to the server, to the client, or both. Together with a stall of the other direction only
// one end learns of it.
func (p *Proxy) Reset(directions ...Direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		for _, direction := range orBoth(directions) {
			l.reset(direction)
		}
	}
}

// Heal ends all faults.
func (p *Proxy) Heal() {
	p.change(func() { p.faults, p.delays = [2]fault{}, [2]time.Duration{} })
}

// At calls do when text passes in a direction for the nth time from now on, counted from 1 over all connections, before it is forwarded. So
// do may still keep it from arriving. The channel is closed when do has returned.
func (p *Proxy) At(direction Direction, text string, nth int, do func()) <-chan struct{} {
	w := &watch{direction: direction, text: []byte(text), left: nth, do: do, done: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watches = append(p.watches, w)
	return w.done
}

// Close ends the proxy and resets its connections.
func (p *Proxy) Close() {
	_ = p.listener.Close()
	p.change(func() { p.ended = true })
	p.once.Do(func() { close(p.end) })
	p.Reset()
	p.running.Wait()
}

func (p *Proxy) begin(f fault, directions []Direction) {
	p.change(func() {
		for _, direction := range orBoth(directions) {
			p.faults[direction] = f
		}
	})
}

func (p *Proxy) change(fn func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fn()
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Proxy) state(direction Direction) (fault, time.Duration, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults[direction], p.delays[direction], p.changed
}

func orBoth(directions []Direction) []Direction {
	if len(directions) == 0 {
		return []Direction{ToServer, ToClient}
	}
	return directions
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		network, address := pgconn.NetworkAddress(p.config.Host, p.config.Port)
		server, err := new(net.Dialer).DialContext(context.Background(), network, address)
		if err != nil {
			abort(client) // as a server that is down refuses
			continue
		}
		p.open(client, server)
	}
}

func (p *Proxy) open(client, server net.Conn) {
	l := &link{proxy: p, ends: [2]net.Conn{ToServer: server, ToClient: client}, closed: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		abort(client)
		abort(server)
		return
	}
	p.links[l] = true
	p.running.Go(func() {
		var pumps sync.WaitGroup
		pumps.Go(func() { l.pump(ToServer) })
		pumps.Go(func() { l.pump(ToClient) })
		pumps.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.links, l)
	})
}

// abort closes with RST.
func abort(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
