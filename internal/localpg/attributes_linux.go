package localpg

import "syscall"

// attributes puts a child into a process group of its own, so that a terminal's Ctrl-C reaches us alone and
// the server outlives our last queries; makes it run as who; and has the kernel shut it down at once
// (SIGQUIT) when we are killed.
func attributes(who *owner) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGQUIT}
	if who != nil {
		attr.Credential = &syscall.Credential{Uid: who.uid, Gid: who.gid}
	}
	return attr
}
