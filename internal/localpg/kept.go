package localpg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// ErrInUse is returned when another server, of this process or another, runs on a kept cluster.
var ErrInUse = errors.New("another server is running on this cluster")

// passwordName is the file with the superuser's password: kept with a kept cluster, gone after initdb with any other.
const passwordName = "password"

func openFolder(options Options, who *owner) (*folder, error) {
	if options.Kept == "" {
		return newFolder(options.Dir, who)
	}
	return keptFolder(options.Kept, who)
}

// KeptDir returns a folder for a kept cluster of that name: in the user's cache folder or, where the server's user
// cannot enter that, as with root's, in one below /var/tmp.
func KeptDir(name string) (string, error) {
	who, err := findOwner()
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err == nil && (who == nil || who.canEnter(cache)) {
		return filepath.Join(cache, "bbm-runner", name), nil
	}
	return filepath.Join("/var/tmp", fmt.Sprintf("bbm-runner-%d", os.Geteuid()), name), nil
}

// keptFolder makes the folder or takes the one that is there. It belongs to the server's user, and nobody else may
// enter it: one that another user has made in a public place is refused.
func keptFolder(path string, who *owner) (_ *folder, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("resolve the kept cluster's folder: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the kept cluster's folder: %w", err)
	}
	switch err := os.Mkdir(path, 0o700); {
	case err == nil:
		if err := who.give(path); err != nil {
			return nil, err
		}
	case !errors.Is(err, fs.ErrExist):
		return nil, fmt.Errorf("make the kept cluster's folder: %w", err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("look at the kept cluster's folder: %w", err)
	}
	if !info.IsDir() || info.Mode().Perm()&0o077 != 0 || !who.owns(info) {
		return nil, fmt.Errorf("%s is not a folder that belongs to %s alone", path, who)
	}
	f := &folder{path: path, kept: true}
	if f.lock, err = os.OpenFile(filepath.Join(path, lockName), os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600); err != nil {
		return nil, fmt.Errorf("make lock file: %w", err)
	}
	if err := syscall.Flock(int(f.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.remove()
		return nil, fmt.Errorf("%s: %w", path, ErrInUse)
	}
	return f, nil
}

// owns tells whether what info describes belongs to the server's user.
func (o *owner) owns(info fs.FileInfo) bool {
	uid := os.Geteuid()
	if o != nil {
		uid = int(o.uid)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == uid
}

// createOnce makes the cluster, or takes the kept one that is there.
func (s *Server) createOnce(ctx context.Context) error {
	version, err := os.ReadFile(filepath.Join(s.dataDir(), "PG_VERSION"))
	if err != nil {
		return s.create(ctx)
	}
	if major := strings.TrimSpace(string(version)); major != strconv.Itoa(s.major) {
		return fmt.Errorf("the kept cluster %s is of PostgreSQL %s, and the binaries are of %d: choose other binaries, or remove it",
			s.folder.path, major, s.major)
	}
	password, err := os.ReadFile(filepath.Join(s.folder.path, passwordName))
	if err != nil {
		return fmt.Errorf("read the kept cluster's password: %w", err)
	}
	s.password = strings.TrimSpace(string(password))
	return s.openLog()
}
