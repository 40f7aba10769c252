package dbtest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// PgBouncer starts one in front of the server of a URL, until the test ends, and returns the URL by way of it. The test is skipped where it is not installed.
func PgBouncer(t testing.TB, target string, settings map[string]string) string {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		t.Skip("pgbouncer is not installed (Debian and Ubuntu: apt install pgbouncer)")
	}
	config, err := pgx.ParseConfig(target)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	// Not in the test's folder, which a parent closes to the user that it runs as.
	dir, err := os.MkdirTemp("/tmp", "bbm-pgbouncer-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	const attempts = 5 // another process may take the port that was free a moment ago
	for range attempts {
		port := closedPort(t)
		log, err := startPgBouncer(t, program, dir, pgBouncerConfig(config, dir, port, settings), port)
		if err == nil {
			u.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
			return u.String()
		}
		t.Logf("pgbouncer: %v: %s", err, log)
	}
	t.Fatal("pgbouncer does not start")
	return ""
}

func pgBouncerConfig(config *pgx.ConnConfig, dir string, port int, settings map[string]string) map[string]string {
	quoted := func(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
	lines := []string{"[databases]", fmt.Sprintf("* = host=%s port=%d", config.Host, config.Port), "[pgbouncer]"}
	all := map[string]string{
		"listen_addr": "127.0.0.1", "listen_port": strconv.Itoa(port), "unix_socket_dir": "",
		"auth_type": "scram-sha-256", "auth_file": filepath.Join(dir, "users.txt"),
	}
	maps.Copy(all, settings)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		lines = append(lines, name+" = "+all[name])
	}
	return map[string]string{
		"pgbouncer.ini": strings.Join(lines, "\n") + "\n",
		"users.txt":     quoted(config.User) + " " + quoted(config.Password) + "\n",
	}
}

func startPgBouncer(t testing.TB, program, dir string, files map[string]string, port int) (log *bytes.Buffer, err error) {
	t.Helper()
	// It refuses to run as root.
	attributes, give := &syscall.SysProcAttr{}, func(string) error { return nil }
	if os.Geteuid() == 0 {
		account, err := user.Lookup("nobody")
		if err != nil {
			t.Skipf("pgbouncer refuses to run as root: %v", err)
		}
		uid, _ := strconv.Atoi(account.Uid)
		gid, _ := strconv.Atoi(account.Gid)
		attributes.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		give = func(path string) error { return os.Chown(path, uid, gid) }
	}
	if err := give(dir); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := give(path); err != nil {
			t.Fatal(err)
		}
	}
	log = &bytes.Buffer{}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, filepath.Join(dir, "pgbouncer.ini"))
	cmd.Dir, cmd.SysProcAttr, cmd.Stdout, cmd.Stderr = dir, attributes, log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	var exit error
	go func() { defer close(ended); exit = cmd.Wait() }()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ended:
			return log, fmt.Errorf("it has ended: %w", exit)
		case <-ticker.C:
		}
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			_ = conn.Close()
			t.Cleanup(func() {
				_ = cmd.Process.Kill()
				<-ended
			})
			return log, nil
		}
	}
}

// closedPort returns a port of loopback on which nobody listens.
func closedPort(t testing.TB) int {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr).Port
}
