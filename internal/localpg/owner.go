package localpg

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
)

// owner is the OS user that the server runs as: nil for the user that we are.
type owner struct {
	name     string
	uid, gid uint32
}

// findOwner returns the user to run the server as. PostgreSQL refuses to run as root, so that root hands
// it to the user of the machine's PostgreSQL packages, else to nobody.
func findOwner() (*owner, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		account, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(account.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(account.Gid, 10, 32)
		if errUID == nil && errGID == nil {
			return &owner{name: name, uid: uint32(uid), gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("PostgreSQL refuses to run as root, and there is no user postgres (or nobody) to run it as: " +
		"add one (useradd --system postgres) or run this as another user")
}

// String names the owner in messages.
func (o *owner) String() string {
	if o == nil {
		return "this user"
	}
	return "user " + o.name
}

// give makes the owner the owner of path.
func (o *owner) give(path string) error {
	if o == nil {
		return nil
	}
	if err := os.Chown(path, int(o.uid), int(o.gid)); err != nil {
		return fmt.Errorf("give %s to %s: %w", path, o, err)
	}
	return nil
}

// canEnter tells whether the owner may walk to dir: root's own temporary folder is often closed to others.
func (o *owner) canEnter(dir string) bool {
	if o == nil {
		return true
	}
	for {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir = parent
	}
}
