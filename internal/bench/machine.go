package main

import (
	"bufio"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// machine is what times depend on beside the programs. What the platform does not tell stays empty.
type machine struct {
	processor, kernel, memory, disk string
	processors                      int
	postgres                        string
	commit                          time.Duration // the median wait of a commit for the disk
}

func describeMachine(ctx context.Context, s *server) (machine, error) {
	m := machine{
		processor: field("/proc/cpuinfo", "model name"), processors: runtime.NumCPU(), memory: field("/proc/meminfo", "MemTotal"),
		disk: fileSystem(os.TempDir()),
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.kernel = runtime.GOOS + " " + strings.TrimSpace(string(text))
	}
	if err := s.conn.QueryRow(ctx, `SELECT version()`).Scan(&m.postgres); err != nil {
		return m, err
	}
	var err error
	m.commit, err = commitWait(ctx, s)
	return m, err
}

// commitWait is how much longer a transaction of one row takes when its commit waits for the disk: what a loop pays for each of its pieces.
func commitWait(ctx context.Context, s *server) (time.Duration, error) {
	const commits = 200
	durations := make(map[string][]float64)
	for range commits {
		for _, mode := range []string{"on", "off"} {
			if _, err := s.conn.Exec(ctx, `SET synchronous_commit = `+mode); err != nil {
				return 0, err
			}
			began := time.Now()
			if _, err := s.conn.Exec(ctx, `SELECT pg_logical_emit_message(true, 'bench', '')`); err != nil {
				return 0, err
			}
			durations[mode] = append(durations[mode], time.Since(began).Seconds())
		}
	}
	_, err := s.conn.Exec(ctx, `RESET synchronous_commit`)
	wait := median(durations["on"]) - median(durations["off"])
	return time.Duration(wait * float64(time.Second)), err
}

// field reads the value of "key : value" from a file of such lines.
func field(path, key string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if name, value, found := strings.Cut(lines.Text(), ":"); found && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// fileSystem names the type of the file system that a folder is on: the last mount of the longest path above it.
func fileSystem(folder string) string {
	folder, err := filepath.EvalSymlinks(folder)
	if err != nil {
		return ""
	}
	text, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return ""
	}
	longest, kind := -1, ""
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			continue
		}
		at := fields[1]
		if (folder == at || strings.HasPrefix(folder, strings.TrimSuffix(at, "/")+"/")) && len(at) >= longest {
			longest, kind = len(at), fields[2]
		}
	}
	return kind
}
