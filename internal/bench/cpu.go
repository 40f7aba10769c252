package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of times in /proc: Linux reports them in hundredths of a second on every platform.
const tick = 10 * time.Millisecond

// processorTimes are sums since the start of the machine and of the processes. They stay zero where there is no /proc.
type processorTimes struct {
	server, harness time.Duration
	busy, stolen    time.Duration // of all processors
}

// readProcessorTimes reads the times of a server by its postmaster's process, of this process, and of the machine.
func readProcessorTimes(postmaster int) (p processorTimes) {
	p.server = treeTime(postmaster)
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) == nil {
		p.harness = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return p
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	p.busy, p.stolen = machineTimes(string(line))
	return p
}

// machineTimes reads the first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal (proc(5)).
func machineTimes(line string) (busy, stolen time.Duration) {
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, 0
	}
	for _, i := range []int{1, 2, 3, 6, 7} {
		busy += ticks(fields[i])
	}
	return busy, ticks(fields[8])
}

// treeTime is what a process and its children have used. The children that have ended and been waited for are in their parent's own record.
func treeTime(pid int) (total time.Duration) {
	paths, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		stat, ok := readStat(string(text))
		switch {
		case !ok:
		case stat.pid == pid:
			total += stat.own + stat.children
		case stat.parent == pid:
			total += stat.own
		}
	}
	return total
}

// processStat is what we need of /proc/PID/stat.
type processStat struct {
	pid, parent   int
	own, children time.Duration
}

// readStat counts from behind the name, which may hold anything (proc(5)).
func readStat(text string) (s processStat, ok bool) {
	end := strings.LastIndexByte(text, ')')
	pid, _, found := strings.Cut(text, " ")
	if end < 0 || !found {
		return s, false
	}
	fields := strings.Fields(text[end+1:])
	if len(fields) < 15 {
		return s, false
	}
	s.pid, _ = strconv.Atoi(pid)
	s.parent, _ = strconv.Atoi(fields[1])
	s.own = ticks(fields[11]) + ticks(fields[12])
	s.children = ticks(fields[13]) + ticks(fields[14])
	return s, true
}

// processTime is what one live process has used.
func processTime(pid int) time.Duration {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0
	}
	stat, _ := readStat(string(text))
	return stat.own
}

func ticks(text string) time.Duration {
	n, _ := strconv.ParseInt(text, 10, 64)
	return time.Duration(n) * tick
}

// peakMemory is the largest resident size that a live process has had, in bytes; 0 where the platform does not tell. The maxrss of wait4 will not do:
// it starts from the size of the process that forked.
func peakMemory(pid int) int64 {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0
	}
	return highWaterMark(string(text))
}

func highWaterMark(status string) int64 {
	for line := range strings.Lines(status) {
		if value, found := strings.CutPrefix(line, "VmHWM:"); found {
			kilobytes, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kilobytes * 1024
		}
	}
	return 0
}
