package session

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// ConnectError is returned when no connection is had. Its message is one line that says what to do where that is known; it holds neither a password nor
// a server's DETAIL.
type ConnectError struct {
	Lasting bool // another try will not succeed: the certificate is wrong, or the server wants or has no TLS

	message string
	err     error
}

func (e *ConnectError) Error() string { return e.message }
func (e *ConnectError) Unwrap() error { return e.err }

// explained makes the driver's error plain. That one tells the same for each address and each way of encryption that it tried, in several lines.
func explained(err error) error {
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
	case errors.As(err, &refused) && strings.Contains(refused.Message, "no encryption"):
		return lasting("%s (SQLSTATE %s); where the server wants TLS, give sslmode=require or verify-full", refused.Message, refused.Code)
	case errors.As(err, &refused):
		return &ConnectError{false, fmt.Sprintf("%s (SQLSTATE %s)", refused.Message, refused.Code), err}
	case strings.Contains(err.Error(), "server refused TLS connection"): // the driver has no type for it
		return lasting("the server has no TLS, and sslmode asks for it; turn it on there, or give sslmode=disable where the network is trusted")
	}
	var failed *pgconn.ConnectError
	text := err.Error()
	if errors.As(err, &failed) && failed.Unwrap() != nil {
		text = failed.Unwrap().Error() // without the user and the database
	}
	return &ConnectError{false, oneLine(text), err}
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
