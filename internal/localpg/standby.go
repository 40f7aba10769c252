package localpg

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
)

// Standby starts a second server that follows this one by streaming, with the same password. This one is ended (immediately) and started again meanwhile, so
// that its data can be copied without any of PostgreSQL's other programs. The standby becomes a server of its own by pg_promote().
func (s *Server) Standby(ctx context.Context) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	folder, err := newFolder(filepath.Dir(s.folder.path), s.who)
	if err != nil {
		return nil, err
	}
	standby := &Server{
		binDir: s.binDir, major: s.major, settings: maps.Clone(s.settings), password: s.password, who: s.who, folder: folder,
	}
	if standby.settings == nil {
		standby.settings = make(map[string]string)
	}
	standby.settings["primary_conninfo"] = fmt.Sprintf("host=127.0.0.1 port=%d user=%s password=%s application_name=%s",
		s.port, superuser, s.password, rand.Text())
	if err := standby.follow(ctx, s); err != nil {
		return nil, errors.Join(fmt.Errorf("start a standby: %w", err), standby.Stop())
	}
	return standby, nil
}

// follow copies the primary's data and starts on them.
func (s *Server) follow(ctx context.Context, primary *Server) error {
	if err := s.openLog(); err != nil {
		return err
	}
	primary.Crash()
	if err := s.copyData(primary.dataDir()); err != nil {
		return err
	}
	if err := primary.Restart(ctx); err != nil {
		return err
	}
	return s.startOnFreePort(ctx)
}

func (s *Server) copyData(from string) error {
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := s.dataDir() + strings.TrimPrefix(path, from)
		switch {
		case entry.IsDir():
			err = os.Mkdir(to, 0o700)
		case entry.Type().IsRegular() && entry.Name() != "postmaster.pid":
			var content []byte
			if content, err = os.ReadFile(path); err == nil {
				err = os.WriteFile(to, content, 0o600)
			}
		default:
			return nil
		}
		if err != nil {
			return err
		}
		return s.who.give(to)
	})
	if err != nil {
		return fmt.Errorf("copy the primary's data: %w", err)
	}
	signal := filepath.Join(s.dataDir(), "standby.signal")
	if err := os.WriteFile(signal, nil, 0o600); err != nil {
		return err
	}
	return s.who.give(signal)
}
