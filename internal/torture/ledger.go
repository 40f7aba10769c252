package main

import (
	"math/rand/v2"
	"sync"
	"time"
)

// entry is what the application knows of one row of its table. Where an answer did not arrive, it does not know.
type entry struct {
	born    time.Time // when the transaction had begun that inserted it, and that was committed; zero: perhaps it was not
	isNew   bool      // written in the form that a migration makes of the others
	gone    bool      // perhaps deleted, or not inserted
	deleted bool      // for certain
	sure    int       // updates known to be committed
	maybe   int       // updates that may have been
}

// ledger is the application's account of one table, by tag.
type ledger struct {
	place sync.RWMutex // held for reading by whoever needs the table under its name, for writing while another is there

	mu      sync.Mutex
	entries map[int64]*entry
	next    int64
}

func newLedger(rows int) *ledger {
	l := &ledger{entries: make(map[int64]*entry), next: int64(rows) + 1}
	now := time.Now()
	for tag := range int64(rows) {
		l.entries[tag+1] = &entry{born: now}
	}
	return l
}

// pick returns n tags, of which a few may be of rows that are gone.
func (l *ledger) pick(rng *rand.Rand, n int) []int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	tags := make([]int64, n)
	for i := range tags {
		tags[i] = 1 + rng.Int64N(l.next-1)
	}
	return tags
}

// newTag is that of a row to be inserted. The row is in the ledger before anybody can find it in the table.
func (l *ledger) newTag(isNew bool) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	tag := l.next
	l.next++
	l.entries[tag] = &entry{isNew: isNew}
	return tag
}

// verdict is what is known of a statement.
type verdict int

const (
	applied verdict = iota
	refused
	unknown
)

// updated takes down an update of rows, those that it returned where that is known.
func (l *ledger) updated(tags []int64, v verdict) {
	for _, tag := range tags {
		l.mark(tag, func(e *entry) {
			switch v {
			case applied:
				e.sure++
			case unknown:
				e.maybe++
			}
		})
	}
}

// inserted takes down an insert of a transaction that began at a time.
func (l *ledger) inserted(tag int64, at time.Time, v verdict) {
	l.mark(tag, func(e *entry) {
		switch v {
		case applied:
			e.born = at
		case refused:
			e.gone, e.deleted = true, true
		}
	})
}

// deleting takes down that a row may vanish from now on, deleted that it has.
func (l *ledger) deleting(tag int64) { l.mark(tag, func(e *entry) { e.gone = true }) }
func (l *ledger) deleted(tag int64)  { l.mark(tag, func(e *entry) { e.deleted = true }) }

func (l *ledger) mark(tag int64, as func(*entry)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	as(l.entries[tag])
}
