package dbtest

import (
	"bytes"
	"net"
	"sync"
	"time"
)

// link is one connection through a proxy.
type link struct {
	proxy  *Proxy
	ends   [2]net.Conn // by the direction that leads to it
	once   sync.Once
	closed chan struct{}
}

// watch waits for a text to pass.
type watch struct {
	direction Direction
	text      []byte
	left      int
	do        func()
	done      chan struct{}
}

// pump forwards in one direction until its source ends and the other end may learn of it.
func (l *link) pump(direction Direction) {
	var (
		from, to = l.ends[1-direction], l.ends[direction]
		buffer   = make([]byte, 64<<10)
		tail     []byte // of the piece before: a text may be cut by two pieces
		deaf     bool
	)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			tail = l.proxy.look(direction, tail, buffer[:n])
			if l.await(direction, &deaf) && !deaf {
				_, _ = to.Write(buffer[:n]) // an end that is gone shows when it is read
			}
		}
		if err != nil {
			break
		}
	}
	if deaf {
		return
	}
	// The end of a connection is a packet like others: while the way is cut, it does not arrive.
	for cut := true; cut; {
		f, _, changed := l.proxy.state(direction)
		if cut = f != healthy; cut && !l.wait(changed, nil) {
			return
		}
	}
	l.once.Do(func() { close(l.closed) })
	_ = from.Close()
	_ = to.Close()
}

// await holds a piece back as long as the way is stalled or slow. It returns false when the link has ended meanwhile.
func (l *link) await(direction Direction, deaf *bool) bool {
	for {
		f, delay, changed := l.proxy.state(direction)
		switch {
		case f == swallowing || *deaf:
			*deaf = true
			return true
		case f == stalled:
			if !l.wait(changed, nil) {
				return false
			}
			continue
		case delay > 0:
			return l.wait(nil, time.After(delay))
		}
		return true
	}
}

// wait returns false when the link, or the proxy, has ended.
func (l *link) wait(changed <-chan struct{}, after <-chan time.Time) bool {
	select {
	case <-changed:
	case <-after:
	case <-l.closed:
		return false
	case <-l.proxy.end:
		return false
	}
	return true
}

// reset cuts one end off.
func (l *link) reset(direction Direction) { abort(l.ends[direction]) }

// look calls what waits for a text in this piece, and returns what of it may be the beginning of one.
func (p *Proxy) look(direction Direction, tail, piece []byte) []byte {
	seen := append(tail, piece...)
	var due []*watch
	longest := 0
	p.mu.Lock()
	left := p.watches[:0]
	for _, w := range p.watches {
		if w.direction == direction {
			longest = max(longest, len(w.text))
			// What ends within the tail was counted with the piece before.
			fresh := seen[max(0, len(tail)-len(w.text)+1):]
			w.left -= bytes.Count(fresh, w.text)
			if w.left <= 0 {
				due = append(due, w)
				continue
			}
		}
		left = append(left, w)
	}
	p.watches = left
	p.mu.Unlock()
	for _, w := range due {
		w.do()
		close(w.done)
	}
	keep := max(0, min(longest-1, len(seen)))
	return bytes.Clone(seen[len(seen)-keep:])
}
