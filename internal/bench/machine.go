package main

import (
	"bufio"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// machine is what times depend on beside the programs. What the platform does not tell stays empty.
type machine struct {
	processor, kernel, memory, disk string
	processors                      int
	postgres                        string
}

func describeMachine(ctx context.Context, s *server) (machine, error) {
	m := machine{
		processor: field("/proc/cpuinfo", "model name"), processors: runtime.NumCPU(), memory: field("/proc/meminfo", "MemTotal"),
		disk: fileSystem(os.TempDir()),
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.kernel = runtime.GOOS + " " + strings.TrimSpace(string(text))
	}
	err := s.conn.QueryRow(ctx, `SELECT version()`).Scan(&m.postgres)
	return m, err
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
