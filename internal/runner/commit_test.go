package runner_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/control"
	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/localpg"
	"github.com/bbm-runner/bbm-runner/internal/runner"
	"github.com/bbm-runner/bbm-runner/internal/session"
	"github.com/bbm-runner/bbm-runner/schema"
)

// A stop meets a commit that waits for a standby that does not come. What it proves each time: the
// runner ends, nobody sees what the commit would bring, and its server process waits on, since
// nothing has cancelled it; when the standby is not asked for any more, all goes on as if nothing
// had been.
func TestAStopCancelsNoCommit(t *testing.T) {
	t.Parallel()
	server, err := localpg.Start(t.Context(), localpg.Options{BinDir: os.Getenv(dbtest.BinVariable), Settings: map[string]string{"fsync": "off", "autovacuum": "off"}})
	if errors.Is(err, localpg.ErrNotFound) {
		t.Skipf("needs a server of its own: %v", err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	admin := dbtest.Connect(t, server.URL("postgres"))
	for _, c := range []struct {
		name  string
		catch func(w *world, config runner.Config) (goOn func(), stop func() error) // right before the commit
		brief string                                                                // what that would bring
		sees  string                                                                // by all others
	}{
		{"preparing", catchPreparing, "the pinned version", `SELECT work_checksum IS NOT NULL FROM bbm.batched_background_migrations`},
		{"claiming", catchClaiming, "a third job", `SELECT count(*) = 3 FROM bbm.batched_background_migration_jobs`},
		{"changing rows", catchChanging, "a third sub-batch", `SELECT sum(n) > 16 FROM public.items`},
		{"a job that succeeds", catchSucceeding, "the success", `SELECT bool_or(status = 'succeeded') FROM bbm.batched_background_migration_jobs`},
		{"a job that fails", catchFailing, "the failure", `SELECT bool_or(attempts > 0) FROM bbm.batched_background_migration_jobs`},
		{"finishing", catchFinishing, "finished", `SELECT status = 'finished' FROM bbm.batched_background_migrations`},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := worldOn(t, admin, server, 30)
			config := w.daemon()
			config.ShutdownGrace, config.SynchronousCommit = 200*time.Millisecond, c.name == "changing rows"
			w.enqueue("count", "public.items", 10, 8)
			goOn, stop := c.catch(w, config)
			w.awaitStandby("ghost")
			goOn()
			w.eventually(`SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name LIKE 'bbm-runner%')`)
			require.NoError(t, stop())
			require.False(t, one[bool](w, c.sees), "others see %s, which no standby has", c.brief)
			require.Equal(t, 1, one[int](w, `SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`), "its commit waits on")

			w.awaitStandby("")
			w.eventually(c.sees)
			w.eventually(`SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name LIKE 'bbm-runner%')`)
			w.exec(`DROP TRIGGER IF EXISTS bad ON public.items`)
			if w.status("count") != "finished" {
				require.NoError(t, w.control().Resume(w.ctx, "count", "", false))
			}
			require.NoError(t, w.runUntilIdle(parse(t, "count", increment)))
			w.eachOnce("count")
		})
	}
	t.Run("a command that is given up", func(t *testing.T) {
		w := worldOn(t, admin, server, 30)
		w.enqueue("count", "public.items", 10, 8)
		w.awaitStandby("ghost")
		connConfig, err := pgx.ParseConfig(w.url)
		require.NoError(t, err)
		conn, err := session.Connect(w.ctx, connConfig, session.Config{})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(w.ctx, 300*time.Millisecond)
		defer cancel()
		require.Error(t, (&control.Control{Conn: conn, ChangedBy: "test@host"}).Pause(ctx, "count", ""))
		require.Equal(t, "active", w.status("count"))
		w.awaitStandby("")
		w.eventually(`SELECT status = 'paused' FROM bbm.batched_background_migrations`)
	})
}

func worldOn(t *testing.T, admin *pgx.Conn, server *localpg.Server, rows int) *world {
	t.Helper()
	_, err := admin.Exec(t.Context(), `DROP DATABASE IF EXISTS commits WITH (FORCE)`)
	require.NoError(t, err)
	_, err = admin.Exec(t.Context(), `CREATE DATABASE commits`)
	require.NoError(t, err)
	config, err := pgx.ParseConfig(server.URL("commits"))
	require.NoError(t, err)
	_, err = schema.Up(t.Context(), config)
	require.NoError(t, err)
	w := setupOn(t, server.URL("commits"), rows)
	w.exec(`SET synchronous_commit = local`)
	t.Cleanup(func() {
		_, err := admin.Exec(context.Background(), `ALTER SYSTEM RESET synchronous_standby_names`)
		require.NoError(t, err)
		_, err = admin.Exec(context.Background(), `SELECT pg_reload_conf()`)
		require.NoError(t, err)
	})
	return w
}

// awaitStandby makes every commit of the server wait for a standby, or for none.
func (w *world) awaitStandby(name string) {
	w.t.Helper()
	w.exec(`ALTER SYSTEM SET synchronous_standby_names = '` + name + `'`)
	w.exec(`SELECT pg_reload_conf()`)
	probe := dbtest.Connect(w.t, w.url)
	done := make(chan error, 1)
	go func() {
		_, err := probe.Exec(w.ctx, `CREATE TABLE public.probe (); DROP TABLE public.probe`)
		done <- err
	}()
	if name == "" {
		require.NoError(w.t, <-done)
		return
	}
	waits := func() bool {
		return one[bool](w, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'SyncRep')`, probe.PgConn().PID())
	}
	for !waits() {
		select {
		case err := <-done: // it came too early
			require.NoError(w.t, err)
			go func() {
				_, err := probe.Exec(w.ctx, `CREATE TABLE public.probe (); DROP TABLE public.probe`)
				done <- err
			}()
		case <-time.After(time.Millisecond):
		}
	}
	w.exec(`SELECT pg_cancel_backend($1)`, probe.PgConn().PID())
	require.NoError(w.t, <-done)
}

func catchPreparing(w *world, config runner.Config) (goOn func(), stop func() error) {
	var end func() error
	return func() { end = w.start(w.runner(config, parse(w.t, "count", increment))) }, func() error { return end() }
}

func catchClaiming(w *world, config runner.Config) (goOn func(), stop func() error) {
	return w.startBetween(config, parse(w.t, "count", increment))
}

func catchChanging(w *world, config runner.Config) (goOn func(), stop func() error) {
	w.exec(`UPDATE bbm.batched_background_migrations SET batch_size = 30`)
	return w.startMidway(16, config, parse(w.t, "count", increment))
}

func catchSucceeding(w *world, config runner.Config) (goOn func(), stop func() error) {
	return w.startMidway(8, config, parse(w.t, "count", increment))
}

func catchFailing(w *world, config runner.Config) (goOn func(), stop func() error) {
	unpause, stop := w.startMidway(8, config, parse(w.t, "count", increment))
	return func() {
		w.exec(`CREATE FUNCTION public.bad() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'bad' USING ERRCODE = 'internal_error'; END $$`)
		w.exec(`CREATE TRIGGER bad BEFORE UPDATE ON public.items FOR EACH ROW WHEN (NEW.id = 9) EXECUTE FUNCTION public.bad()`)
		unpause()
	}, stop
}

// catchFinishing holds the migration right before its end.
func catchFinishing(w *world, config runner.Config) (goOn func(), stop func() error) {
	w.exec(`CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN UPDATE bbm.batched_background_migrations SET on_hold_until = 'infinity', hold_reason = 'a test'; RETURN NULL; END $$`)
	w.exec(`CREATE TRIGGER hold AFTER UPDATE ON public.items FOR EACH ROW WHEN (NEW.id = 30) EXECUTE FUNCTION public.hold()`)
	stop = w.start(w.runner(config, parse(w.t, "count", increment)))
	w.eventually(`SELECT succeeded_jobs = 3 FROM bbm.batched_background_migrations`)
	return func() {
		w.exec(`UPDATE bbm.batched_background_migrations SET on_hold_until = NULL, hold_reason = NULL`)
	}, stop
}
