package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// migration is one that the round has asked for; whether the request arrived shows in the database.
type migration struct {
	name, work string
	kind       kind
	turn       int
	asked      time.Time // before the first enqueue
	enqueue    []string  // the command
	known      bool      // an enqueue has succeeded
}

// commandLimit bounds a command while the server is in trouble.
const commandLimit = 30 * time.Second

// control executes a command of bbm-runner and reports whether it succeeded. Its refusals are right or wrong by other tests; here it must only
// not break.
func (r *round) control(ctx context.Context, args ...string) bool {
	callCtx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	code, output, err := r.program.call(callCtx, r.url, r.works, args...)
	r.tell("bbm-runner %s: exit code %d, %v: %s", named(args), code, err, output)
	// A failure may have a disturbance for its cause, a deadlock never.
	isBroken := err != nil || code < 0 || code > 2 || code == 1 && !r.isHard.Load()
	for _, trouble := range []string{"panic:", "DATA RACE", "deadlock"} {
		isBroken = isBroken || strings.Contains(output, trouble)
	}
	if isBroken && ctx.Err() == nil {
		r.complain(&r.other, "bbm-runner %s: exit code %d, %v: %s", named(args), code, err, output)
	}
	return err == nil && code == 0
}

// replenish enqueues migrations until enough are on their way, by the command line or by SQL.
func (r *round) replenish(ctx context.Context, rng *rand.Rand) {
	statuses, err := r.statuses(ctx)
	if err != nil {
		return
	}
	unfinished := 0
	for _, m := range r.migrations {
		if !isEnded(statuses[m.name]) {
			unfinished++
		}
	}
	for ; unfinished < r.atOnce; unfinished++ {
		if m := r.draw(rng); m != nil {
			r.enqueue(ctx, m)
		}
	}
}

// draw chooses a migration; nil when its table has had its turns.
func (r *round) draw(rng *rand.Rand) *migration {
	k := r.kinds[rng.IntN(len(r.kinds))]
	workName := []string{workCount, workMark, workStumble, workRefuse, workProve}[rng.IntN(5)]
	m := &migration{work: k.name + "_" + workName, kind: k, turn: 1, asked: time.Now()}
	subBatch := 5 + rng.IntN(60)
	m.enqueue = []string{
		"--sub-batch-size", strconv.Itoa(subBatch), "--batch-size", strconv.Itoa(subBatch * (2 + rng.IntN(20))),
		"--pause", milliseconds(rng, 0, 15).String(), "--parallelism", number(rng, 4), "--max-attempts", number(rng, 8),
	}
	if rng.IntN(8) == 0 {
		m.enqueue = append(m.enqueue, "--paused")
	}
	if m.policy() == "quarantine" {
		m.enqueue = append(m.enqueue, "--on-row-error", "quarantine", "--quarantine-limit", "1000")
	}
	bySQL := rng.IntN(5) == 0
	r.mutex.Lock()
	defer r.mutex.Unlock()
	for _, other := range r.migrations {
		if other.kind.name == k.name {
			m.turn++
		}
		if other.work == m.work && workName == workProve {
			return nil // a second would hide what the first has missed
		}
	}
	if m.turn > r.turns {
		return nil
	}
	m.name = fmt.Sprintf("%s_%d", m.work, m.turn)
	if bySQL {
		m.enqueue = nil
	} else {
		m.enqueue = append([]string{"enqueue", m.work, "--name", m.name, "--arg", "turn=" + strconv.Itoa(m.turn)}, m.enqueue...)
	}
	r.migrations = append(r.migrations, m)
	return m
}

// enqueue may be repeated: the same name and definition again changes nothing.
func (r *round) enqueue(ctx context.Context, m *migration) {
	r.ledgers[m.kind.name].place.RLock() // what is enqueued is for the table that the round checks
	defer r.ledgers[m.kind.name].place.RUnlock()
	if m.enqueue != nil {
		m.known = r.control(ctx, m.enqueue...)
	} else {
		m.known = r.exec(ctx, `SELECT bbm.enqueue($1, $2::text::regclass, $3, jsonb_build_object('turn', $4::text), batch_size => 300, sub_batch_size => 20)`,
			m.work, "app."+m.kind.name, m.name, strconv.Itoa(m.turn))
	}
	if m.known {
		r.count(actEnqueue)
	}
}

// migration draws the name of one.
func (r *round) migration(rng *rand.Rand) string {
	n := rng.Float64()
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if len(r.migrations) == 0 {
		return "none"
	}
	// One of the last few: those before have ended.
	few := min(len(r.migrations), r.atOnce+1)
	return r.migrations[len(r.migrations)-few+int(n*float64(few))].name
}

// hurry makes the next attempts of failed jobs due: their back-off is of minutes, and a round is not.
func (r *round) hurry(ctx context.Context) {
	r.exec(ctx, `UPDATE bbm.batched_background_migration_jobs SET next_attempt_at = now() WHERE status = 'failed' AND next_attempt_at > now() + interval '1 s'`)
}

// statuses are those of all migrations, by name.
func (r *round) statuses(ctx context.Context) (map[string]string, error) {
	statuses := make(map[string]string)
	err := r.connected(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, `SELECT name, status::text FROM bbm.batched_background_migrations`)
		if err != nil {
			return err
		}
		var name, status string
		_, err = pgx.ForEachRow(rows, []any{&name, &status}, func() error {
			statuses[name] = status
			return nil
		})
		return err
	})
	return statuses, err
}

func isEnded(status string) bool { return status == "finished" || status == "cancelled" }

// exec reports whether a statement was executed.
func (r *round) exec(ctx context.Context, sql string, args ...any) bool {
	err := r.connected(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql, args...)
		return err
	})
	if err != nil {
		r.tell("%s: %s", sql, err)
	}
	return err == nil
}

// execAll executes statements on one connection, one by one, and reports whether all were.
func (r *round) execAll(ctx context.Context, statements ...string) bool {
	err := r.connected(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		for _, statement := range statements {
			if _, err := conn.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		r.tell("%q: %s", statements, err)
	}
	return err == nil
}

// connected lends a connection of our own, which does not go through a proxy.
func (r *round) connected(ctx context.Context, do func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, r.url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	return do(ctx, conn)
}

// number draws one from 1 to most.
func number(rng *rand.Rand, most int) string { return strconv.Itoa(1 + rng.IntN(most)) }

// tell writes to the timeline.
func (r *round) tell(format string, args ...any) {
	_, _ = fmt.Fprintf(r.timeline, "%s %s\n", time.Now().UTC().Format("15:04:05.000"), fmt.Sprintf(format, args...))
}

// complain notes a fault of a kind, and returns all.
func (r *round) complain(counter *int, format string, args ...any) []string {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	*counter++
	r.complaints = append(r.complaints, fmt.Sprintf(format, args...))
	if r.timeline != nil {
		r.tell("FAULT: "+format, args...)
	}
	return r.complaints
}
