package localpg

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	folderPrefix = "bbm-postgres-"
	lockName     = "owner.lock"
)

// folder is the folder of one cluster, a temporary one unless it is kept. An flock on a file in it lasts as long as the process that
// made it, however that ends: a later start thereby knows which folders are left over and removes them.
type folder struct {
	path string
	kept bool
	lock *os.File
}

// newFolder makes a folder that belongs to the server's user, in parent or, where that is empty, in the
// machine's temporary folder.
func newFolder(parent string, who *owner) (*folder, error) {
	switch {
	case parent == "" && who.canEnter(os.TempDir()):
		parent = os.TempDir()
	case parent == "":
		parent = "/tmp"
	case !who.canEnter(parent):
		return nil, fmt.Errorf("%s, as whom the server runs, cannot enter %s: choose another folder", who, parent)
	}
	parent, err := filepath.Abs(parent)
	if err != nil {
		return nil, fmt.Errorf("resolve temporary folder: %w", err)
	}
	removeAbandoned(parent)

	path, err := os.MkdirTemp(parent, folderPrefix)
	if err != nil {
		return nil, fmt.Errorf("make temporary folder: %w", err)
	}
	f := &folder{path: path}
	if err := f.claim(); err != nil {
		_ = f.remove()
		return nil, err
	}
	if err := who.give(path); err != nil {
		_ = f.remove()
		return nil, err
	}
	return f, nil
}

// claim locks the file first and then gives it its name, so that no lock file ever stands in a folder
// unlocked while its process lives.
func (f *folder) claim() error {
	lock, err := os.CreateTemp(f.path, "lock-")
	if err != nil {
		return fmt.Errorf("make lock file: %w", err)
	}
	f.lock = lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("lock temporary folder: %w", err)
	}
	if err := os.Rename(lock.Name(), filepath.Join(f.path, lockName)); err != nil {
		return fmt.Errorf("name lock file: %w", err)
	}
	return nil
}

// remove removes the folder, or gives it free for the next server where it is kept.
func (f *folder) remove() error {
	var err error
	if !f.kept {
		err = os.RemoveAll(f.path)
	}
	if f.lock != nil {
		_ = f.lock.Close()
		f.lock = nil
	}
	if err != nil {
		return fmt.Errorf("remove temporary folder: %w", err)
	}
	return nil
}

// removeAbandoned removes the folders in parent whose process is gone. What it may not touch, or cannot
// remove, it leaves: tidying up never stands in the way of a start.
func removeAbandoned(parent string) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return
	}
	for _, entry := range entries {
		if !entry.IsDir() || !strings.HasPrefix(entry.Name(), folderPrefix) {
			continue
		}
		path := filepath.Join(parent, entry.Name())
		lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR|syscall.O_NOFOLLOW, 0)
		if err != nil {
			continue
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.RemoveAll(path)
		}
		_ = lock.Close()
	}
}
