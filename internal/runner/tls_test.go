package runner_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A runner that loses its connection goes on trying: what it logs each time is for whoever is on call.
func TestAConnectionThatTLSPreventsIsOnePlainLineOfTheLog(t *testing.T) {
	w := setup(t, 0)
	u, err := url.Parse(w.url)
	require.NoError(t, err)
	query := u.Query()
	query.Set("sslmode", "require")
	u.RawQuery = query.Encode()
	if conn, err := pgx.Connect(t.Context(), u.String()); err == nil {
		_ = conn.Close(t.Context())
		t.Skip("this server has TLS")
	}
	w.url = u.String()
	stop := w.start(w.runner(w.daemon()))
	require.Eventually(t, func() bool { return strings.Contains(w.log.String(), "msg=reconnecting") }, 30*time.Second, 5*time.Millisecond)
	require.NoError(t, stop())
	for line := range strings.Lines(w.log.String()) {
		if strings.Contains(line, "msg=reconnecting") {
			assert.Contains(t, line, `error="connection lost: the server has no TLS, and sslmode asks for it; `)
			assert.NotContains(t, line, `\n`)
			assert.NotContains(t, line, u.User.Username()+" database=")
		}
	}
}
