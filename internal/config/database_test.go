package config

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTheConnectionStringIsRead(t *testing.T) {
	t.Parallel()
	c, err := Load(Sources{Flags: map[string]string{"database_url": "postgres://alice@db.example:6432/shop"}})
	require.NoError(t, err)
	connConfig, err := c.ConnConfig()
	require.NoError(t, err)
	assert.Equal(t, "db.example", connConfig.Host)
	assert.Equal(t, uint16(6432), connConfig.Port)
	assert.Equal(t, "shop", connConfig.Database)
}

func TestAnUnreadableConnectionStringNeverShowsItsPassword(t *testing.T) {
	t.Parallel()
	for _, connection := range []string{
		"postgres://alice:hunt%er2@db/shop",
		"postgres://alice:hunter2@db:port/shop",
		"postgres://alice:hunter2:x@y@db:99999999/shop",
		"postgres://db:port/shop?password=hunter2",
		"host=db port=x password=hunter2",
		"host=db port=x password='hunter2",
		"hunter2@db",
		"postgres://db/shop?sslmode=maybe&passw%6frd=hunter2",
	} {
		c, err := Load(Sources{Environ: []string{"BBM_DATABASE_URL=" + connection}})
		require.NoError(t, err)
		_, err = c.ConnConfig()
		require.ErrorAs(t, err, new(*InputError), connection)
		assert.NotContains(t, err.Error(), "hunt", connection)
		assert.NotContains(t, err.Error(), "er2", connection)
		assert.NotContains(t, err.Error(), "\n", connection)
		assert.Contains(t, err.Error(), "BBM_DATABASE_URL: ", connection)
	}
}

func TestAnUnreadableConnectionStringWithoutASecretSaysWhy(t *testing.T) {
	t.Parallel()
	c, err := Load(Sources{Flags: map[string]string{"database_url": "host=db port=x"}})
	require.NoError(t, err)
	_, err = c.ConnConfig()
	require.Error(t, err)
	assert.Contains(t, err.Error(), "--database-url: the connection cannot be read (invalid port")
}

func TestAMessageIsShownWithoutThePasswordsThatItQuotes(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]string{
		`unknown command "postgres://alice:hunter2@db/shop?a=b"`:       `unknown command "postgres://alice:xxxxx@db/shop?a=b"`,
		`unknown command "postgresql://alice:h@un"t/er2@db" (help)`:    `unknown command "postgresql://alice:xxxxx@db" (help)`,
		`a postgres://db/shop?password=hunter2&a=b`:                    `a postgres://db/shop?password=xxxxx&a=b`,
		`unknown command "host=db password=hunter2 user=a"`:            `unknown command "host=db password=xxxxx user=a"`,
		`role "a@b" may not; write postgres://user@host:5432/database`: `role "a@b" may not; write postgres://user@host:5432/database`,
		`password authentication failed for user "alice"`:              `password authentication failed for user "alice"`,
	} {
		assert.Equal(t, want, RedactText(message))
	}
}

func TestRedactTakesOutPasswordsOnly(t *testing.T) {
	t.Parallel()
	for connection, want := range map[string]string{
		"postgres://alice:hunter2@db/shop":                   "postgres://alice:xxxxx@db/shop",
		"postgres://alice@db/shop":                           "postgres://alice@db/shop",
		"postgres://db/shop?user=alice&password=hunter2&a=b": "postgres://db/shop?user=alice&password=xxxxx&a=b",
		"postgres://alice:hunt%er2@db/shop":                  "xxxxx",
		"host=db password=hunter2 user=alice":                "host=db password=xxxxx user=alice",
		`host=db password = 'hun\'ter 2' user=alice`:         "host=db password = xxxxx user=alice",
		`password=hun\ ter2 sslpassword=secret`:              "password=xxxxx sslpassword=xxxxx",
	} {
		assert.Equal(t, want, Redact(connection), connection)
	}
}
