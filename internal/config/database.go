package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ConnConfig reads the connection string, and libpq's PG* variables and ~/.pgpass for what it leaves out. An error is an [*InputError].
func (c *Config) ConnConfig() (*pgx.ConnConfig, error) {
	connConfig, err := pgx.ParseConfig(c.DatabaseURL)
	if err == nil {
		return connConfig, nil
	}
	origin := c.Origin("database_url")
	if c.DatabaseURL == "" {
		origin = "the PG* variables"
	}
	return nil, inputErrorf("%s: the connection cannot be read (%s); write postgres://user@host:5432/database", origin, parseReason(err))
}

// parseReason leaves out the string that was parsed. Where that may hold a password nothing else is said: in a malformed string its
// boundaries are anybody's guess.
func parseReason(err error) string {
	var failed *pgconn.ParseConfigError
	if !errors.As(err, &failed) {
		return "unknown reason"
	}
	var file *fs.PathError
	if errors.As(err, &file) {
		return fmt.Sprintf("a file that it names, such as sslrootcert, sslcert, sslkey, passfile or servicefile, cannot be read: %s", file.Err)
	}
	if strings.ContainsAny(failed.ConnString, "@%") || strings.Contains(strings.ToLower(failed.ConnString), "password") {
		return "its parts are not shown, since it may hold a password"
	}
	_, reason, _ := strings.Cut(err.Error(), "`: ")
	return strings.ReplaceAll(reason, "\n", " ")
}

// redacted stands for a password.
const redacted = "xxxxx"

var passwordPair = regexp.MustCompile(`(?i)((?:ssl)?password\s*=\s*)('(?:\\.|[^'\\])*'?|(?:\\.|[^\s\\&])+)`)

var passwordOfURL = regexp.MustCompile(`(?i)(postgres(?:ql)?://[^\s:@]*:)\S*@`)

// RedactText returns a message without the password of any URL or pair that it quotes. It is the last guard: messages are
// written so that they hold none, but what was typed in the place of a command or a flag is quoted.
func RedactText(message string) string {
	return passwordPair.ReplaceAllString(passwordOfURL.ReplaceAllString(message, "${1}"+redacted+"@"), "${1}"+redacted)
}

// Redact returns the connection string without its password. A URL that cannot be read is replaced as a whole.
func Redact(connection string) string {
	if strings.Contains(connection, "://") {
		u, err := url.Parse(connection)
		if err != nil {
			return redacted
		}
		if _, has := u.User.Password(); has {
			u.User = url.UserPassword(u.User.Username(), redacted)
		}
		u.RawQuery = passwordPair.ReplaceAllString(u.RawQuery, "${1}"+redacted)
		return u.String()
	}
	return passwordPair.ReplaceAllString(connection, "${1}"+redacted)
}
