// Package config reads the settings of bbm-runner. A flag wins over an environment variable, that
// over the YAML file, and that over the default. A setting is called works_dir in the file and
// BBM_WORKS_DIR in the environment; flags exist for a few.
//
// The file is strict: an unknown key is an error. The environment is not, since other systems write
// there too: an unknown BBM_ variable is a warning, unless it is one of those that Kubernetes adds
// for a service (BBM_RUNNER_SERVICE_HOST).
package config

import (
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/bbm-runner/bbm-runner/internal/nearest"

	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/v2"
)

// prefix of the environment variables; those of the tests are not looked at.
const (
	prefix     = "BBM_"
	testPrefix = "BBM_TEST_"
)

// Config holds the settings of one process. Durations are written as Go's: 250ms, 2h.
type Config struct {
	DatabaseURL        string         // a libpq connection string or URL; default "": PG* variables and ~/.pgpass
	WorksDir           string         // folder of the work files; default "works"
	Enabled            bool           // this process may execute; default false
	AsynchronousCommit bool           // sub-batches commit without waiting for the disk; default true
	LogFormat          string         // auto (text on a terminal, else json), text or json; default auto
	LogLevel           slog.Level     // default info
	Workers            int            // jobs that this process may execute at once; default 1
	PollInterval       time.Duration  // between two looks for something to do; default 5s
	ShutdownGrace      time.Duration  // what a sub-batch gets to end in after SIGTERM; default 30s
	LockTimeout        time.Duration  // longest wait for a lock; default 5s
	StatementTimeout   time.Duration  // longest run of one statement; default 1m
	IdleTimeout        time.Duration  // longest silence of a runner, after which the server ends its session; default 30s
	WaitForDatabase    *time.Duration // how long a runner waits at start; default nil: for ever as a daemon, 1m until idle
	LogRetentionMonths int            // whole months for which the log of jobs is kept; default 6
	SentryDSN          string         // where critical failures are reported; default "": nowhere
	SentryEnvironment  string         // the environment named in those reports; default ""

	// Warnings are sentences for the user: settings that were given but not understood.
	Warnings []string

	origins map[string]string
}

// Sources are where settings come from, beside the file that they name.
type Sources struct {
	Flags   map[string]string // by setting ("works_dir"), those that were given; "config" names the file
	Environ []string          // as os.Environ returns it
}

// InputError is returned when a setting cannot be used. Its message is one line, names where the setting was found and never holds a secret.
type InputError struct {
	Msg string
}

func (e *InputError) Error() string { return e.Msg }

func inputErrorf(format string, values ...any) error {
	return &InputError{fmt.Sprintf(format, values...)}
}

// Load reads all settings. Every error is an [*InputError].
func Load(from Sources) (*Config, error) {
	c := &Config{origins: make(map[string]string)}
	k := koanf.New(".")

	defaults := make(map[string]any)
	for _, s := range settings {
		defaults[s.name] = s.fallback
	}
	layers := []layer{{values: defaults, origin: func(string) string { return "the default" }}}
	variables, err := c.readEnvironment(from.Environ)
	if err != nil {
		return nil, err
	}
	if path, origin := filePath(from, variables); path != "" {
		file, err := readFile(path, origin)
		if err != nil {
			return nil, err
		}
		layers = append(layers, file)
	}
	delete(variables, fileSetting)
	layers = append(layers, layer{variables, variableName}, flagLayer(from.Flags))

	for _, l := range layers {
		if err := k.Load(confmap.Provider(l.values, ""), nil); err != nil {
			return nil, inputErrorf("read settings: %s", err)
		}
		for name := range l.values {
			c.origins[name] = l.origin(name)
		}
	}
	for _, s := range settings {
		value := k.String(s.name)
		if err := s.read(c, value); err != nil {
			return nil, inputErrorf("%s is %s; %s", c.place(s.name), shown(value, s.secret), err)
		}
	}
	return c, nil
}

// IsDefault reports whether nobody gave the setting.
func (c *Config) IsDefault(name string) bool { return c.origins[name] == "the default" }

// Origin says where a setting was found: a flag, a variable, or a line of the file.
func (c *Config) Origin(name string) string { return c.origins[name] }

// place names a setting where the user has written it. A flag's name and a variable's say which it is; a line of a file does not.
func (c *Config) place(name string) string {
	switch origin := c.origins[name]; origin {
	case flagName(name), variableName(name):
		return origin
	default:
		return origin + ": " + name
	}
}

// longestShown is how much of a wrong value helps to see the mistake.
const longestShown = 64

// shown quotes what was written, for a message. In a file with a quote too many, a harmless setting's value or key may have swallowed the line of a
// connection string: what could be one is not shown.
func shown(written string, secret bool) string {
	if secret || len(written) > longestShown || strings.ContainsAny(written, "@=\n\r") || strings.Contains(written, "://") {
		return `"…"`
	}
	return strconv.Quote(written)
}

// layer is one source of settings.
type layer struct {
	values map[string]any
	origin func(name string) string
}

// fileSetting names the file itself, so it cannot stand in it.
const fileSetting = "config"

func filePath(from Sources, variables map[string]any) (path, origin string) {
	if path, given := from.Flags[fileSetting]; given {
		return path, "--config"
	}
	if path, given := variables[fileSetting].(string); given {
		return path, variableName(fileSetting)
	}
	return "", ""
}

func flagLayer(flags map[string]string) layer {
	values := make(map[string]any)
	for name, value := range flags {
		if name != fileSetting {
			values[name] = value
		}
	}
	return layer{values, flagName}
}

func variableName(setting string) string { return prefix + strings.ToUpper(setting) }

// flagName is as the command line spells it: works_dir is --works.
func flagName(setting string) string {
	return "--" + strings.TrimSuffix(strings.ReplaceAll(setting, "_", "-"), "-dir")
}

// ofService matches what Kubernetes tells every container of a service (its documentation,
// "Services", under "Environment variables").
var ofService = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// unknownVariable says what a variable may have been meant to be: a flag's name leads to its
// setting, then the nearest name.
func unknownVariable(variable string, candidates []string) string {
	name := strings.ToLower(strings.TrimPrefix(variable, prefix))
	for _, candidate := range candidates {
		if flagName(candidate) == flagName(name) {
			return fmt.Sprintf("the variable %s is not known; did you mean %s?", variable, variableName(candidate))
		}
	}
	if near := nearest.Word(name, candidates); near != "" {
		return fmt.Sprintf("the variable %s is not known; did you mean %s?", variable, variableName(near))
	}
	return fmt.Sprintf("the variable %s is not known, and nothing reads it; see: bbm-runner help settings", variable)
}

// readEnvironment returns the settings found in variables. An empty variable counts as not set, since deployment tools cannot unset one.
func (c *Config) readEnvironment(environ []string) (map[string]any, error) {
	known := make(map[string]bool)
	candidates := []string{fileSetting}
	for _, s := range settings {
		candidates = append(candidates, s.name)
	}
	for _, name := range candidates {
		known[name] = true
	}
	provider := env.Provider("", env.Opt{
		Prefix:      prefix,
		EnvironFunc: func() []string { return environ },
		TransformFunc: func(variable, value string) (string, any) {
			name := strings.ToLower(strings.TrimPrefix(variable, prefix))
			switch {
			case known[name] && variable == variableName(name):
				if value != "" {
					return name, value
				}
			case !strings.HasPrefix(variable, testPrefix) && !ofService.MatchString(variable):
				c.Warnings = append(c.Warnings, unknownVariable(variable, candidates))
			}
			return "", nil
		},
	})
	values, err := provider.Read()
	if err != nil {
		return nil, inputErrorf("read the environment: %s", err)
	}
	return values, nil
}
