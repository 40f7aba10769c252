package config

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"
)

// setting is one key of the file, and the variable of the same name.
type setting struct {
	name     string
	fallback string
	meaning  string
	secret   bool // never printed
	read     func(c *Config, value string) error
}

// settings are all there are. Three of the fallbacks are decisions:
//   - lock_timeout: whoever waits for a lock makes others queue behind. Below the server's deadlock_timeout (1 s) a sub-batch gives way before
//     the server looks for a victim, which could be the application.
//   - statement_timeout: a sub-batch is meant to take 200 ms. A minute, 300 times that, leaves room for a boundary query on a cold
//     disk and still ends a plan gone wrong before it has held back vacuum for long.
//   - poll_interval: how late a resume or a new migration may be noticed; a look costs two index probes.
var settings = []setting{
	{"database_url", "", "PostgreSQL connection string or URL; else the PG* variables and ~/.pgpass", true, text(func(c *Config) *string { return &c.DatabaseURL })},
	{"works_dir", "works", "folder of the work files", false, text(func(c *Config) *string { return &c.WorksDir })},
	{"enabled", "false", "whether this process may execute migrations", false, readSwitch(func(c *Config) *bool { return &c.Enabled })},
	{"log_format", "auto", "auto (text on a terminal, else json), text or json", false, readLogFormat},
	{"log_level", "info", "debug, info, warn or error", false, readLogLevel},
	{"workers", "1", "jobs that this process may execute at once", false, number(1, 1000, func(c *Config) *int { return &c.Workers })},
	{"poll_interval", "5s", "time between two looks for something to do", false, duration(func(c *Config) *time.Duration { return &c.PollInterval })},
	{"shutdown_grace", "30s", "what a sub-batch gets to end in after SIGTERM", false, duration(func(c *Config) *time.Duration { return &c.ShutdownGrace })},
	{"lock_timeout", "500ms", "longest wait of a sub-batch for a lock; keep it below deadlock_timeout", false, duration(func(c *Config) *time.Duration { return &c.LockTimeout })},
	{"statement_timeout", "1m", "longest run of one statement", false, duration(func(c *Config) *time.Duration { return &c.StatementTimeout })},
	{"idle_timeout", "30s", "a runner that hangs for so long loses its session and its slot", false, duration(func(c *Config) *time.Duration { return &c.IdleTimeout })},
	{"wait_for_database", "", "how long run waits for its database at start; empty: forever, 1m with --until-idle", false, readWait},
	{"asynchronous_commit", "true", "whether sub-batches commit without waiting for the disk", false, readSwitch(func(c *Config) *bool { return &c.AsynchronousCommit })},
	{"log_retention_months", "6", "whole months for which the log of jobs is kept, and the jobs of ended migrations", false, number(1, 1200, func(c *Config) *int { return &c.LogRetentionMonths })},
	{"sentry_dsn", "", "where critical failures are reported; empty: nowhere", true, text(func(c *Config) *string { return &c.SentryDSN })},
	{"sentry_environment", "", "the environment named in those reports", false, text(func(c *Config) *string { return &c.SentryEnvironment })},
}

// Help is a table of all settings: the variable, the default and the meaning, one setting a line.
func Help() string {
	var b strings.Builder
	for _, s := range settings {
		fallback := s.fallback
		if fallback == "" {
			fallback = "-"
		}
		fmt.Fprintf(&b, "  %-24s  %-7s  %s\n", variableName(s.name), fallback, s.meaning)
	}
	return b.String()
}

func text(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, value string) error {
		*field(c) = value
		return nil
	}
}

func number(least, most int, field func(*Config) *int) func(*Config, string) error {
	return func(c *Config, value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < least || n > most {
			return fmt.Errorf("give a whole number from %d to %d", least, most)
		}
		*field(c) = n
		return nil
	}
}

func duration(field func(*Config) *time.Duration) func(*Config, string) error {
	return func(c *Config, value string) error {
		d, err := time.ParseDuration(value)
		switch {
		case err != nil:
			return errors.New("give a duration with its unit, such as 250ms, 30s or 2h")
		// Zero stands for no limit in PostgreSQL, and for the default in the runner: it is said neither way.
		case d < time.Millisecond:
			return errors.New("give a duration of at least 1ms")
		// What PostgreSQL's timeouts hold: milliseconds in an int4.
		case d.Milliseconds() > math.MaxInt32:
			return errors.New("give a duration below 596h")
		}
		*field(c) = d
		return nil
	}
}

func readWait(c *Config, value string) error {
	switch d, err := time.ParseDuration(value); {
	case value == "":
		c.WaitForDatabase = nil
	case value == "forever":
		longest := time.Duration(math.MaxInt64)
		c.WaitForDatabase = &longest
	case err != nil || d < 0:
		return errors.New("give forever, 0, or a duration with its unit, such as 30s or 10m")
	default:
		c.WaitForDatabase = &d
	}
	return nil
}

func readSwitch(field func(*Config) *bool) func(*Config, string) error {
	return func(c *Config, value string) error {
		switch strings.ToLower(value) {
		case "true", "yes", "on", "1":
			*field(c) = true
		case "false", "no", "off", "0":
			*field(c) = false
		default:
			return errors.New("give true or false")
		}
		return nil
	}
}

func readLogFormat(c *Config, value string) error {
	switch value {
	case "auto", "text", "json":
		c.LogFormat = value
		return nil
	}
	return errors.New("give auto, text or json")
}

func readLogLevel(c *Config, value string) error {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	level, ok := levels[strings.ToLower(value)]
	if !ok {
		return errors.New("give debug, info, warn or error")
	}
	c.LogLevel = level
	return nil
}
