package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/localpg"
)

// farHost is a network namespace, which to the server is another host: its packets can be dropped without a word.
type farHost struct {
	t                *testing.T
	name, near, addr string
}

func newFarHost(t *testing.T) *farHost {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a network namespace needs root")
	}
	net := fmt.Sprintf("10.%d.%d.", rand.IntN(256), rand.IntN(256))
	h := &farHost{t: t, name: fmt.Sprintf("bbm%d", os.Getpid()), near: net + "1", addr: net + "2"}
	if output, err := exec.Command("ip", "netns", "add", h.name).CombinedOutput(); err != nil {
		t.Skipf("no network namespace can be made here: %v: %s", err, output)
	}
	t.Cleanup(func() { h.ip("netns", "del", h.name) })
	veth := "v" + h.name
	if output, err := exec.Command("ip", "link", "add", veth, "type", "veth", "peer", "name", "far", "netns", h.name).CombinedOutput(); err != nil {
		t.Skipf("no network to it can be made here: %v: %s", err, output)
	}
	h.ip("addr", "add", h.near+"/30", "dev", veth)
	h.ip("link", "set", veth, "up")
	h.ip("-n", h.name, "addr", "add", h.addr+"/30", "dev", "far")
	h.ip("-n", h.name, "link", "set", "far", "up")
	return h
}

func (h *farHost) ip(args ...string) {
	h.t.Helper()
	output, err := exec.Command("ip", args...).CombinedOutput()
	require.NoError(h.t, err, "ip %s: %s", strings.Join(args, " "), output)
}

// vanish drops whatever it sends, acknowledgements too.
func (h *farHost) vanish() { h.ip("-n", h.name, "route", "add", "blackhole", h.near+"/32") }

// start runs a fleet's runner on the far host.
func (h *farHost) start(f *fleet) *process {
	h.t.Helper()
	cmd := f.command("run")
	for i, variable := range cmd.Env {
		if strings.HasPrefix(variable, "BBM_DATABASE_URL=") {
			cmd.Env[i] = strings.Replace(variable, "@127.0.0.1:", "@"+h.near+":", 1)
		}
	}
	program, err := exec.LookPath("ip")
	require.NoError(h.t, err)
	cmd.Path, cmd.Args = program, append([]string{"ip", "netns", "exec", h.name}, cmd.Args...)
	return f.launch(cmd)
}

func TestAJobWhoseRunnersHostVanishedGoesOnElsewhereWithinThirtySeconds(t *testing.T) {
	t.Parallel()
	host := newFarHost(t)
	server, err := localpg.Start(t.Context(), localpg.Options{
		BinDir: os.Getenv(dbtest.BinVariable), Settings: map[string]string{"listen_addresses": "127.0.0.1," + host.near},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	conn := dbtest.Connect(t, server.URL("postgres"))
	var dir string
	require.NoError(t, conn.QueryRow(t.Context(), `SHOW data_directory`).Scan(&dir))
	hba, err := os.OpenFile(filepath.Join(dir, "pg_hba.conf"), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = fmt.Fprintf(hba, "host all all %s/32 scram-sha-256\n", host.addr)
	require.NoError(t, err)
	require.NoError(t, hba.Close())

	var fleets []*fleet
	for _, name := range []string{"between", "within"} {
		_, err := conn.Exec(t.Context(), "CREATE DATABASE "+name)
		require.NoError(t, err)
		fleets = append(fleets, newFleet(t, server.URL(name), 200, 1, "--batch-size", "100", "--sub-batch-size", "10"))
	}
	_, err = conn.Exec(t.Context(), `SELECT pg_reload_conf()`)
	require.NoError(t, err)
	// One host is lost while the server waits for its next word, one while the server works for it.
	between, within := fleets[0], fleets[1]
	between.run("set", "count", "pause=1h")
	within.env = []string{"BBM_LOCK_TIMEOUT=10m", "BBM_STATEMENT_TIMEOUT=10m"}
	within.exec(`CREATE FUNCTION public.wait_here() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(50); RETURN NEW; END $$`)
	within.exec(`CREATE TRIGGER wait_here BEFORE UPDATE ON public.items FOR EACH ROW WHEN (NEW.id = 50) EXECUTE FUNCTION public.wait_here()`)
	within.exec(`SELECT pg_advisory_lock(50)`)
	for _, f := range fleets {
		host.start(f)
	}
	between.eventually(`SELECT EXISTS (SELECT FROM public.items WHERE n = 1)`)
	const waiting = `SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 50 AND NOT granted`
	within.eventually(waiting)

	host.vanish()
	vanished := time.Now()
	between.run("set", "count", "pause=0s")
	others := []*process{between.start("--until-idle"), within.start("--until-idle")}
	for i, f := range fleets {
		require.Eventually(t, func() bool { return f.lost() > 0 }, 30*time.Second, 10*time.Millisecond)
		t.Logf("fleet %d: the job was put back %s after its host had vanished", i+1, time.Since(vanished).Round(100*time.Millisecond))
		if f == within {
			f.exec(`SELECT pg_advisory_unlock(50)`)
		}
		require.NoError(t, others[i].wait())
		f.eachOnce()
	}
}
