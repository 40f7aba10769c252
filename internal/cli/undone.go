package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/control"
)

// undone are the migrations that a run until idle has left behind, with what status said of them
// when it ended.
type undone struct {
	only       []string // the names of those that it was about; none: all
	migrations []control.Migration
}

// look is called while the runner is still connected. The last executor to end has the last word.
func (u *undone) look(ctx context.Context, conn *pgx.Conn) error {
	all, err := (&control.Control{Conn: conn}).Status(ctx, u.only...)
	if err != nil {
		return err
	}
	u.migrations = slices.DeleteFunc(all, func(m control.Migration) bool {
		return m.Status == "finished" || m.Status == "cancelled" && len(u.only) == 0
	})
	return nil
}

// tell warns of each migration, and returns an error where all were to be finished.
func (u *undone) tell(a *app) error {
	var names []string
	for _, m := range u.migrations {
		why := reason(m)
		if why != "" {
			why = ": " + why
		}
		a.warn("%s is %s, and is left undone%s", m.Name, m.Status, why)
		names = append(names, m.Name)
	}
	if len(u.only) == 0 || names == nil {
		return nil
	}
	return &exitError{exitFailed, fmt.Errorf("not finished: %s", strings.Join(names, ", "))}
}

// checkNames looks for the migrations that a run is to be about. A daemon may be started before
// they are enqueued; a run until idle would end at once.
func (a *app) checkNames(ctx context.Context, c *control.Control, only []string, untilIdle bool) error {
	for _, name := range only {
		_, err := c.Status(ctx, name)
		switch {
		case err == nil:
		case errors.Is(err, control.ErrNotFound) && !untilIdle:
			a.warn("%w", err)
		default:
			return err
		}
	}
	return nil
}
