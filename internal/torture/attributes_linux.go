package main

import "syscall"

// attributes put a child into a process group of its own, so that a terminal's Ctrl-C reaches us alone, and have the kernel kill it with us.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
