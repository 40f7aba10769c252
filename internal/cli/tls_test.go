package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/bbm-runner/bbm-runner/internal/dbtest"
	"github.com/bbm-runner/bbm-runner/internal/localpg"
)

// authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	file        string
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	a := authority{file: filepath.Join(t.TempDir(), name+".crt")}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	encoded, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	require.NoError(t, err)
	a.certificate, err = x509.ParseCertificate(encoded)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: encoded}), 0o600))
	return a
}

// serverFiles are a certificate for that host, and its key.
func (a authority) serverFiles(t *testing.T, host string) map[string][]byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	encoded, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return map[string][]byte{
		"server.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: encoded}),
		"server.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}
}

// startTLS starts a server that admits alice by TLS alone and bob without TLS alone. Both have the password secret.
func startTLS(t *testing.T, a authority) *url.URL {
	t.Helper()
	files := a.serverFiles(t, "localhost")
	files["pg_hba.conf"] = []byte("hostssl all alice all scram-sha-256\nhostnossl all bob all scram-sha-256\nhost all postgres all scram-sha-256\n")
	server, err := localpg.Start(t.Context(), localpg.Options{BinDir: os.Getenv(dbtest.BinVariable), Files: files, Settings: map[string]string{"ssl": "on"}})
	if err != nil && strings.Contains(err.Error(), "SSL is not supported by this build") {
		t.Skip("this server was built without TLS")
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	w := &world{t: t, url: server.URL("postgres")}
	w.ok("schema", "up")
	w.conn = dbtest.Connect(t, w.url)
	w.exec(`CREATE ROLE alice LOGIN SUPERUSER PASSWORD 'secret'; CREATE ROLE bob LOGIN SUPERUSER PASSWORD 'secret'`)
	u, err := url.Parse(w.url)
	require.NoError(t, err)
	return u
}

func TestTLSIsAsTheConnectionStringSays(t *testing.T) {
	t.Parallel()
	ours, others := newAuthority(t, "ours"), newAuthority(t, "others")
	server := startTLS(t, ours)
	target := func(user, host, mode, root string) string {
		query := url.Values{"sslmode": {mode}}
		if root != "" {
			query.Set("sslrootcert", root)
		}
		u := url.URL{Scheme: "postgres", User: url.UserPassword(user, "secret"), Host: host + ":" + server.Port(), Path: "/postgres", RawQuery: query.Encode()}
		return u.String()
	}
	const wantsTLS, wrongHost, wrongAuthority = "where the server wants TLS, give sslmode=require or verify-full", "is for localhost, not for 127.0.0.1; connect by a name", "name the file with the authority's certificate by sslrootcert"
	for _, test := range []struct{ user, host, mode, root, refusal string }{
		{"alice", "localhost", "verify-full", ours.file, ""},
		{"alice", "127.0.0.1", "verify-full", ours.file, wrongHost},
		{"alice", "localhost", "verify-full", others.file, wrongAuthority},
		{"alice", "localhost", "verify-full", "", wrongAuthority}, // the system's authorities
		{"alice", "127.0.0.1", "verify-ca", ours.file, ""},
		{"alice", "127.0.0.1", "verify-ca", others.file, wrongAuthority},
		{"alice", "127.0.0.1", "require", "", ""},
		{"alice", "127.0.0.1", "require", ours.file, ""},
		{"alice", "127.0.0.1", "require", others.file, wrongAuthority}, // as libpq: a root makes it verify-ca
		{"alice", "127.0.0.1", "prefer", "", ""},
		{"alice", "127.0.0.1", "allow", "", ""},
		{"alice", "127.0.0.1", "disable", "", wantsTLS},
		{"bob", "127.0.0.1", "disable", "", ""},
		{"bob", "127.0.0.1", "prefer", "", ""},
		{"bob", "127.0.0.1", "require", "", "SSL encryption"},
		{"alice", "localhost", "verify-full", "/nowhere/root.crt", "sslrootcert, sslcert, sslkey, passfile or servicefile, cannot be read: no such file or directory"},
	} {
		t.Run(fmt.Sprint(test.user, " at ", test.host, " with ", test.mode, " and ", filepath.Base(test.root)), func(t *testing.T) {
			t.Parallel()
			w := &world{t: t, url: target(test.user, test.host, test.mode, test.root)}
			r := w.run("status", "--json")
			if test.refusal == "" {
				require.Equal(t, result{exitDone, "[]\n", ""}, r)
				return
			}
			w.requireRefusal(r)
			assert.Contains(t, r.stderr, test.refusal)
			assert.NotContains(t, r.stderr, "tries", "another try does not help")
			assert.NotContains(t, r.stderr, "secret")
		})
	}
	t.Run("a runner says it in one line", func(t *testing.T) {
		t.Parallel()
		w := &world{t: t, url: target("alice", "localhost", "verify-full", others.file)}
		w.requireRefusal(w.run("--works", "../../works", "run"))
	})
}

func TestAServerWithoutTLSIsToldFromOneThatIsNotThere(t *testing.T) {
	w := setup(t)
	u, err := url.Parse(w.url)
	require.NoError(t, err)
	query := u.Query()
	query.Set("sslmode", "require")
	u.RawQuery = query.Encode()
	if other := (&world{t: t, url: u.String()}); other.run("status").code == exitDone {
		t.Skip("this server has TLS")
	}
	w.url = u.String()
	assert.Contains(t, w.refused("status"), "the server has no TLS, and sslmode asks for it")
}
