package control

import (
	"cmp"
	"slices"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// model is what the commands and the runner should make of the migrations of two tables, one of which is empty. It knows nothing of how they do it.
type model struct {
	migrations map[string]*modelled
	enqueued   int
	claimed    int
	isDisabled bool
}

type modelled struct {
	number      int // in the order of the enqueues
	work        string
	status      dbgen.MigrationStatus
	claimedAt   int // 0: never
	attempts    int // failures of its one job
	maxAttempts int
	isPast      bool // its job has been executed beyond the row at which things happen
	history     []step
}

// step is one change of a status; from is "" at the creation.
type step struct{ from, to dbgen.MigrationStatus }

// The works of the model: two on a table with rows, one on an empty table.
const (
	workA    = "a"
	workB    = "b"
	workVoid = "void"
)

const defaultMaxAttempts = 5

func (m *modelled) to(status dbgen.MigrationStatus) {
	m.history = append(m.history, step{m.status, status})
	m.status = status
}

func (m *modelled) isOneOf(statuses ...dbgen.MigrationStatus) bool {
	return slices.Contains(statuses, m.status)
}

// The commands return whether they should succeed.

func (w *model) enqueue(name, work string, isPaused bool) bool {
	if m := w.migrations[name]; m != nil {
		return m.work == work && m.status != cancelled
	}
	w.enqueued++
	m := &modelled{number: w.enqueued, work: work, maxAttempts: defaultMaxAttempts}
	w.migrations[name] = m
	switch {
	case isPaused:
		m.to(paused)
	case work == workVoid:
		m.to(finished)
	default:
		m.to(active)
	}
	return true
}

func (w *model) pause(name string) bool {
	m := w.migrations[name]
	if m == nil || !m.isOneOf(paused, active, running) {
		return false
	}
	if m.status != paused {
		m.to(paused)
	}
	return true
}

func (w *model) resume(name string) bool {
	m := w.migrations[name]
	if m == nil || !m.isOneOf(paused, active, running) {
		return false
	}
	if m.status == paused {
		m.to(active)
	}
	return true
}

func (w *model) cancel(name string) bool {
	m := w.migrations[name]
	if m == nil || m.status == finished {
		return false
	}
	if m.status != cancelled {
		m.to(cancelled)
	}
	return true
}

func (w *model) retry(name string) bool {
	m := w.migrations[name]
	if m == nil || m.status != failed {
		return false
	}
	m.attempts = 0
	m.to(active)
	return true
}

func (w *model) set(name string, maxAttempts int) bool {
	m := w.migrations[name]
	if m == nil || m.isOneOf(finished, cancelled) {
		return false
	}
	m.maxAttempts = maxAttempts
	return true
}

// remove is the command delete.
func (w *model) remove(name string) bool {
	m := w.migrations[name]
	if m == nil || !m.isOneOf(finished, cancelled) {
		return false
	}
	delete(w.migrations, name)
	return true
}

// next is the migration whose job a runner executes next: the one that holds the table, else the least recently claimed. "" for none.
func (w *model) next() (name string) {
	for candidate, m := range w.migrations {
		switch {
		case m.status == running:
			return candidate
		case m.status != active:
			continue
		}
		if name == "" || cmp.Or(cmp.Compare(m.claimedAt, w.migrations[name].claimedAt), cmp.Compare(m.number, w.migrations[name].number)) < 0 {
			name = candidate
		}
	}
	return name
}

// run executes jobs until nothing is left to do, with failures and, once, something that happens in the midst of a job.
func (w *model) run(failures int, during func(name string) (isStopped bool)) {
	for !w.isDisabled {
		for _, m := range w.migrations {
			if m.work == workVoid && m.status == active {
				m.to(finished) // there is nothing to walk over
			}
		}
		name := w.next()
		if name == "" {
			return
		}
		m := w.migrations[name]
		w.claimed++
		m.claimedAt = w.claimed
		if m.status == active {
			m.to(running)
		}
		wasPast := m.isPast
		m.isPast = true
		if during != nil && !wasPast {
			isStopped := during(name)
			during = nil
			if isStopped {
				return
			}
			if m.status != running || w.isDisabled {
				continue // given back after the sub-batch
			}
		}
		if m.attempts < failures {
			m.attempts++
			if m.attempts >= m.maxAttempts {
				m.to(failed)
			}
			continue
		}
		m.to(finished)
	}
}
