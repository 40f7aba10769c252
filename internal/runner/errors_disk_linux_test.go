package runner_test

import (
	"context"
	"errors"
	"os"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

// fullDisk has the table in a small file system of its own, which is full until something else in it is dropped.
func fullDisk(w *world) {
	w.exec(`CREATE TABLESPACE small LOCATION '` + w.mount("size=1m") + `'`)
	w.exec(`ALTER TABLE public.items ADD COLUMN filler text NOT NULL DEFAULT repeat('x', 2000), ALTER COLUMN filler SET STORAGE PLAIN`)
	w.exec(`ALTER TABLE public.items SET TABLESPACE small`)
	w.exec(`CREATE TABLE public.ballast TABLESPACE small AS SELECT filler FROM public.items`)
	w.enqueue("count", "public.items", 10, 10)
	_, err := w.conn.Exec(w.ctx, `INSERT INTO public.ballast SELECT repeat('x', 2000) FROM generate_series(1, 10000)`)
	var full *pgconn.PgError
	require.ErrorAs(w.t, err, &full)
	require.Equal(w.t, "53100", full.Code)
	count := parse(w.t, "count", increment)
	for range 4 { // as often as it takes: a full disk is no fault of a job's
		w.held("disk_full", count)
	}
	w.noAttempt()
	w.exec(`DROP TABLE public.ballast`)
	require.NoError(w.t, w.runUntilIdle(count))
	w.eachOnce("count")
	w.exec(`DROP TABLE public.items`)
	w.exec(`DROP TABLESPACE small`)
}

// mount gives the server a small file system, where the test may.
func (w *world) mount(options string) (dir string) {
	w.t.Helper()
	if os.Geteuid() != 0 {
		w.t.Skip("needs root, to mount a small file system")
	}
	dir, err := os.MkdirTemp("/tmp", "bbm-small-")
	require.NoError(w.t, err)
	w.t.Cleanup(func() { require.NoError(w.t, os.Remove(dir)) })
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		w.t.Skipf("cannot mount a small file system: %v", err)
	}
	w.t.Cleanup(func() {
		// A test that failed leaves files of the server open.
		if err := syscall.Unmount(dir, 0); errors.Is(err, syscall.EBUSY) {
			require.NoError(w.t, syscall.Unmount(dir, syscall.MNT_DETACH))
		}
	})
	var data string
	require.NoError(w.t, w.conn.QueryRow(context.Background(), `SHOW data_directory`).Scan(&data))
	info, err := os.Stat(data)
	require.NoError(w.t, err)
	require.NoError(w.t, os.Chown(dir, int(info.Sys().(*syscall.Stat_t).Uid), -1))
	return dir
}
