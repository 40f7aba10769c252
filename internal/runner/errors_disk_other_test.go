//go:build !linux

package runner_test

func fullDisk(w *world) { w.t.Skip("needs a small file system, mounted as on Linux") }
