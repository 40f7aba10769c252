package runner_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/control"
	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/preview"
	"github.com/bbm-runner/bbm-runner/internal/session"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// wiretap stands between clients and the server and keeps every statement's text that was sent: nothing that a driver, or a way around its tracer, sends
// can escape it.
type wiretap struct {
	url string

	mu         sync.Mutex
	statements map[string]bool
	err        error
}

// newWiretap listens until the test ends; the URL that it makes leads to the server through it.
func newWiretap(t *testing.T, target string) *wiretap {
	t.Helper()
	u, err := url.Parse(target)
	require.NoError(t, err)
	server := u.Host
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	u.Host = listener.Addr().String()
	query := u.Query()
	query.Set("sslmode", "disable") // what is encrypted cannot be read
	u.RawQuery = query.Encode()
	w := &wiretap{url: u.String(), statements: make(map[string]bool)}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // the test has ended
			}
			go w.serve(client, server)
		}
	}()
	t.Cleanup(func() { _ = listener.Close() })
	return w
}

func (w *wiretap) serve(client net.Conn, server string) {
	defer func() { _ = client.Close() }()
	upstream, err := net.Dial("tcp", server)
	if err != nil {
		w.note("", err)
		return
	}
	defer func() { _ = upstream.Close() }()
	go func() {
		_, _ = io.Copy(client, upstream)
		_ = client.Close()
	}()
	if err := w.read(io.TeeReader(client, upstream)); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		w.note("", err)
	}
}

// read follows the client's side of the protocol: a startup packet or a cancel request, then messages of a type, a length and a body.
func (w *wiretap) read(client io.Reader) error {
	var length [4]byte
	if _, err := io.ReadFull(client, length[:]); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, client, int64(binary.BigEndian.Uint32(length[:]))-4); err != nil {
		return err
	}
	for {
		var head [5]byte
		if _, err := io.ReadFull(client, head[:]); err != nil {
			return err
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(client, body); err != nil {
			return err
		}
		switch head[0] {
		case 'Q':
			w.note(string(body), nil)
		case 'P': // the statement's name, its text, its parameters' types
			_, text, _ := bytes.Cut(body, []byte{0})
			text, _, _ = bytes.Cut(text, []byte{0})
			w.note(string(text), nil)
		}
	}
}

func (w *wiretap) note(statement string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.statements[statement] = true
	w.err = errors.Join(w.err, err)
}

// requireNone proves that none of the texts holds the canary, and that there are texts.
func (w *wiretap) requireNone(t *testing.T, canary string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	require.NoError(t, w.err)
	works := 0
	for statement := range w.statements {
		assert.NotContains(t, statement, canary)
		if strings.Contains(statement, "SET n = n + 1") {
			works++
		}
	}
	require.Positive(t, works, "no statement of the work was seen")
}

// Values are keys, arguments, names and reasons: whatever is not the work's own text.
func TestNoValueEverReachesTheServerAsTextOfAStatement(t *testing.T) {
	w := setup(t, 0)
	const canary = "canary'; DROP TABLE public.items; --"
	w.exec(`CREATE TABLE public.keys (tenant text COLLATE "C", id text COLLATE "C", n int NOT NULL DEFAULT 0, label text, PRIMARY KEY (tenant, id))`)
	w.exec(`INSERT INTO public.keys SELECT $1 || g % 3, $1 || g FROM generate_series(1, 60) AS g`, canary)
	count := parse(t, "count", `-- description: Count.
-- table: public.keys
-- cursor: tenant, id
-- argument: label text
-- argument: list text[]

-- +bbm Work
UPDATE public.keys AS k SET n = n + 1, label = @label || (@list)[1] WHERE @batch(k)`)
	tap := newWiretap(t, w.url)
	direct := w.url
	w.url = tap.url

	connConfig, err := pgx.ParseConfig(tap.url)
	require.NoError(t, err)
	conn, err := session.Connect(t.Context(), connConfig, session.Config{})
	require.NoError(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	registry, err := work.NewRegistry(count)
	require.NoError(t, err)
	c := &control.Control{Conn: conn, Works: registry, ChangedBy: canary}
	arguments := map[string]string{"label": canary, "list": fmt.Sprintf("{%q}", canary)}
	batch, sub := 20, 7
	name := "named " + canary
	_, err = c.Enqueue(t.Context(), control.EnqueueOptions{Work: "count", Name: name, Arguments: arguments, BatchSize: &batch, SubBatchSize: &sub, Paused: true})
	require.NoError(t, err)
	require.NoError(t, c.Resume(t.Context(), name, canary, false))
	require.NoError(t, w.runUntilIdle(count))
	_, err = c.Status(t.Context(), name)
	require.NoError(t, err)
	require.NoError(t, c.Jobs(t.Context(), name, "", func([]control.Job) error { return nil }))
	require.NoError(t, c.Logs(t.Context(), name, func([]control.LogRow) error { return nil }))
	values := work.Arguments{}
	for key, text := range arguments {
		values[key] = &text
	}
	_, err = preview.Explain(t.Context(), conn, preview.Subject{Work: count, Arguments: values})
	require.NoError(t, err)

	tap.requireNone(t, "canary")
	w.url = direct
	require.Equal(t, "finished", w.status(name))
	require.Zero(t, one[int](w, `SELECT count(*) FROM public.keys WHERE n <> 1 OR label <> $1 || $1`, canary))
	dbtest.CheckHistory(t, w.conn, name)
}
