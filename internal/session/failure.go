package session

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ConnectError is returned when no connection is had. Its message is one line that says what to do
// where that is known; it holds neither a password nor a server's DETAIL.
type ConnectError struct {
	Lasting bool // another try will not succeed: the password is wrong, there is no such database, the server wants or has no TLS, …

	message string
	err     error
}

func (e *ConnectError) Error() string { return e.message }
func (e *ConnectError) Unwrap() error { return e.err }

// MayPass reports whether another try to connect may succeed after an error of [Connect].
func MayPass(err error) bool {
	var (
		failed  *ConnectError
		refused *pgconn.PgError
	)
	switch {
	case errors.Is(err, ErrPooled), errors.Is(err, ErrPoolExhausted):
		return false
	case errors.As(err, &failed):
		return !failed.Lasting
	case errors.As(err, &refused):
		return passes(refused.Code)
	}
	return true // the connection was lost before the session was pinned
}

// passes tells whether a server that refuses with this SQLSTATE may admit a client later: it
// starts, stops, fails over, or is full.
func passes(sqlstate string) bool {
	switch sqlstate[:min(2, len(sqlstate))] {
	case "08", "53", "57", "58", "XX": // connection exceptions, resources, an operator at work, failures of the system
		return true
	}
	return false
}

// explained makes the driver's error plain. That one tells the same for each address and each way
// of encryption that it tried, in several lines.
func explained(connConfig *pgx.ConnConfig, err error) error {
	var (
		refused   *pgconn.PgError
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	lasting := func(format string, values ...any) error {
		return &ConnectError{true, fmt.Sprintf(format, values...), err}
	}
	switch {
	case errors.As(err, &host):
		return lasting("the server's certificate is for %s, not for %s; connect by a name of the certificate's, or let sslmode=verify-ca check its authority alone",
			names(host.Certificate), host.Host)
	case errors.As(err, &authority):
		return lasting("the server's certificate is not from an authority that is trusted here; name the file with the authority's certificate by sslrootcert")
	case errors.As(err, &invalid):
		return lasting("the server's certificate is not valid: %s", invalid.Error())
	}
	tries := triesOf(err)
	// Where both ways are tried, with TLS and without, a server that lacks one of them is not to
	// blame for what became of the other.
	if others := slices.DeleteFunc(slices.Clone(tries), lacksWay); triesBothWays(connConfig) && len(others) > 0 {
		tries = others
	}
	told := errors.Join(tries...)
	switch {
	case errors.As(told, &refused) && lacksWay(refused):
		return lasting("%s (SQLSTATE %s); where the server wants TLS, give sslmode=require or verify-full", refused.Message, refused.Code)
	case errors.As(told, &refused):
		return &ConnectError{!passes(refused.Code), fmt.Sprintf("%s (SQLSTATE %s)", refused.Message, refused.Code), err}
	case slices.ContainsFunc(tries, lacksWay):
		return lasting("the server has no TLS, and sslmode asks for it; turn it on there, or give sslmode=disable where the network is trusted")
	}
	return &ConnectError{false, oneLine(told.Error()), err}
}

// triesOf are the errors of each address and each way of encryption, without the user and the
// database, which the driver puts before them.
func triesOf(err error) []error {
	var failed *pgconn.ConnectError
	if !errors.As(err, &failed) || failed.Unwrap() == nil {
		return []error{err}
	}
	if joined, ok := failed.Unwrap().(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{failed.Unwrap()}
}

// lacksWay tells whether a server has refused a client with TLS since it has none, or one without
// since it asks for it.
func lacksWay(err error) bool {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return strings.Contains(refused.Message, "no encryption")
	}
	return strings.Contains(err.Error(), "server refused TLS connection") // the driver has no type for it
}

// triesBothWays tells whether a connection is tried with TLS and without, as the default
// sslmode=prefer has it.
func triesBothWays(connConfig *pgx.ConnConfig) bool {
	hasPlain, hasTLS := connConfig.TLSConfig == nil, connConfig.TLSConfig != nil
	for _, other := range connConfig.Fallbacks {
		hasPlain = hasPlain || other.TLSConfig == nil
		hasTLS = hasTLS || other.TLSConfig != nil
	}
	return hasPlain && hasTLS
}

// names lists whom a certificate is for.
func names(certificate *x509.Certificate) string {
	const most = 5
	list := slices.Clone(certificate.DNSNames)
	for _, address := range certificate.IPAddresses {
		list = append(list, address.String())
	}
	switch {
	case len(list) == 0:
		return "no host"
	case len(list) > most:
		list = append(list[:most], "…")
	}
	return strings.Join(list, ", ")
}

// oneLine joins the lines of a message, each said once.
func oneLine(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}
