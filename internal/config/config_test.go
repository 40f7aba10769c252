package config

import (
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// writeFile returns the path of a configuration file.
func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bbm.yaml")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func TestDefaultsHoldWhereNothingIsGiven(t *testing.T) {
	t.Parallel()
	c, err := Load(Sources{})
	require.NoError(t, err)
	assert.False(t, c.Enabled)
	assert.Equal(t, "works", c.WorksDir)
	assert.Equal(t, "auto", c.LogFormat)
	assert.Equal(t, slog.LevelInfo, c.LogLevel)
	assert.Equal(t, 1, c.Workers)
	assert.Equal(t, 5*time.Second, c.PollInterval)
	assert.Equal(t, 30*time.Second, c.ShutdownGrace)
	assert.Equal(t, 500*time.Millisecond, c.LockTimeout)
	assert.Equal(t, time.Minute, c.StatementTimeout)
	assert.Equal(t, 6, c.LogRetentionMonths)
	assert.True(t, c.IsDefault("works_dir"))
	assert.Empty(t, c.Warnings)
}

func TestAFlagWinsOverAVariableOverTheFileOverTheDefault(t *testing.T) {
	t.Parallel()
	path := writeFile(t, "works_dir: from_file\nlog_level: warn\nworkers: 3\nenabled: true\npoll_interval: 250ms\nsentry_dsn:\n")
	c, err := Load(Sources{
		Flags:   map[string]string{"works_dir": "from_flag", "config": path},
		Environ: []string{"BBM_WORKS_DIR=from_variable", "BBM_LOG_LEVEL=debug", "BBM_WORKERS=", "OTHER_WORKERS=9"},
	})
	require.NoError(t, err)
	assert.Equal(t, "from_flag", c.WorksDir)
	assert.Equal(t, slog.LevelDebug, c.LogLevel)
	assert.Equal(t, 3, c.Workers, "an empty variable counts as not set")
	assert.True(t, c.Enabled)
	assert.Equal(t, 250*time.Millisecond, c.PollInterval)
	assert.Equal(t, "--works", c.Origin("works_dir"))
	assert.Equal(t, "BBM_LOG_LEVEL", c.Origin("log_level"))
	assert.Equal(t, path+":3", c.Origin("workers"))
	assert.False(t, c.IsDefault("works_dir"))
	assert.True(t, c.IsDefault("sentry_dsn"), "a key without a value counts as not set")
}

func TestTheFileIsNamedByAVariable(t *testing.T) {
	t.Parallel()
	c, err := Load(Sources{Environ: []string{"BBM_CONFIG=" + writeFile(t, "workers: 2\n")}})
	require.NoError(t, err)
	assert.Equal(t, 2, c.Workers)
}

func TestAMistakeInTheFileNamesItsLine(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]string{
		"workers: 1\nworkes_dir: x\n":               `:2: unknown key "workes_dir"; did you mean "works_dir"?`,
		"poll_intervall: 5s\n":                      `:1: unknown key "poll_intervall"; did you mean "poll_interval"?`,
		"config: x\n":                               `:1: "config" cannot stand in the file that it names`,
		"colour: red\n":                             `:1: unknown key "colour"; use one of database_url, `,
		"\n\nworkers: many\n":                       `:3: workers is "many"; give a whole number from 1 to 1000`,
		"workers: 0\n":                              `:1: workers is "0"; give a whole number`,
		"workers: [1, 2]\n":                         `:1: workers holds a list or a mapping`,
		"poll_interval: 5\n":                        `:1: poll_interval is "5"; give a duration with its unit`,
		"lock_timeout: 0s\n":                        `:1: lock_timeout is "0s"; give a duration of at least 1ms`,
		"statement_timeout: 900h\n":                 `:1: statement_timeout is "900h"; give a duration below 596h`,
		"enabled: maybe\n":                          `:1: enabled is "maybe"; give true or false`,
		"log_format: xml\n":                         `:1: log_format is "xml"; give auto, text or json`,
		"log_level: loud\n":                         `:1: log_level is "loud"; give debug, info, warn or error`,
		"database_url: {password: hunter2}\n":       `:1: database_url holds a list or a mapping`,
		"- hunter2\n":                               `no list of settings`,
		"workers: 1\nworkers: 2\n":                  `already defined at line 1`,
		"database_url: 'postgres://u:hunter2@h/d\n": `found unexpected end of stream`,
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			path := writeFile(t, content)
			_, err := Load(Sources{Flags: map[string]string{"config": path}})
			require.ErrorAs(t, err, new(*InputError))
			assert.Contains(t, err.Error(), want)
			assert.True(t, strings.HasPrefix(err.Error(), path), err.Error())
			assert.NotContains(t, err.Error(), "\n")
			assert.NotContains(t, err.Error(), "hunter2")
		})
	}
}

func TestAMissingFileIsAnError(t *testing.T) {
	t.Parallel()
	_, err := Load(Sources{Flags: map[string]string{"config": "/nowhere/bbm.yaml"}})
	require.ErrorAs(t, err, new(*InputError))
	assert.Equal(t, `--config: the configuration file "/nowhere/bbm.yaml" cannot be read: no such file or directory`, err.Error())
}

func TestAWrongValueNamesItsVariableOrFlag(t *testing.T) {
	t.Parallel()
	_, err := Load(Sources{Environ: []string{"BBM_ENABLED=si"}})
	require.EqualError(t, err, `BBM_ENABLED is "si"; give true or false`)
	_, err = Load(Sources{Flags: map[string]string{"log_format": "xml"}})
	require.EqualError(t, err, `--log-format is "xml"; give auto, text or json`)
}

func TestAnUnknownVariableIsWarnedOf(t *testing.T) {
	t.Parallel()
	c, err := Load(Sources{Environ: []string{
		"BBM_ENABELD=true", "BBM_Workers=7", "BBM_WORKS=w", "BBM_MAXIMUM=3", "BBM_WORKERS=", "PATH=x",
		"BBM_TEST_DATABASE_URL=x", "BBM_RUNNER_SERVICE_HOST=10.0.0.1", "BBM_RUNNER_SERVICE_PORT_HTTP=80", "BBM_PORT=tcp://10.0.0.1:80",
		"BBM_RUNNER_PORT_80_TCP_ADDR=10.0.0.1",
	}})
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{
		"the variable BBM_ENABELD is not known; did you mean BBM_ENABLED?",
		"the variable BBM_Workers is not known; did you mean BBM_WORKERS?",
		"the variable BBM_WORKS is not known; did you mean BBM_WORKS_DIR?",
		"the variable BBM_MAXIMUM is not known, and nothing reads it; see: bbm-runner help settings",
	}, c.Warnings)
	assert.False(t, c.Enabled)
	assert.Equal(t, 1, c.Workers)
}

func TestHelpHasALineForEachSetting(t *testing.T) {
	t.Parallel()
	assert.Equal(t, len(settings), strings.Count(Help(), "\n"))
	assert.Contains(t, Help(), "BBM_POLL_INTERVAL")
}

func TestTheWaitForTheDatabaseMayBeNoneOrForever(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{"0": 0, "10m": 10 * time.Minute, "forever": math.MaxInt64} {
		c, err := Load(Sources{Environ: []string{"BBM_WAIT_FOR_DATABASE=" + value}})
		require.NoError(t, err)
		require.Equal(t, &want, c.WaitForDatabase, value)
	}
	c, err := Load(Sources{})
	require.NoError(t, err)
	require.Nil(t, c.WaitForDatabase, "it depends on the run")
	for _, value := range []string{"-1s", "soon", "10"} {
		_, err := Load(Sources{Environ: []string{"BBM_WAIT_FOR_DATABASE=" + value}})
		require.ErrorContains(t, err, "give forever, 0, or a duration", value)
	}
}
