package cli

import (
	"context"
	"time"

	"github.com/getsentry/sentry-go"
)

// sentryTimeout is how long reports that are still on their way may hold up the end of the process.
const sentryTimeout = 2 * time.Second

// reporter returns the function that reports critical failures, and one that waits for the reports on their way. The first is nil where no
// DSN is set. What is sent are the error's messages and its tags: neither DETAIL nor a connection string is in them.
func (a *app) reporter() (report func(context.Context, error, map[string]string), flush func(), err error) {
	if a.config.SentryDSN == "" {
		return nil, func() {}, nil
	}
	version, _ := a.build()
	client, err := sentry.NewClient(sentry.ClientOptions{
		Dsn:         a.config.SentryDSN,
		Environment: a.config.SentryEnvironment,
		Release:     version,
	})
	if err != nil {
		// The reason may quote the DSN, which holds a key.
		return nil, nil, inputf("%s: sentry_dsn cannot be used; copy it from the settings of the project in Sentry", a.config.Origin("sentry_dsn"))
	}
	report = func(_ context.Context, err error, tags map[string]string) {
		// A hub has one scope at a time, and several executors report.
		hub := sentry.NewHub(client, sentry.NewScope())
		hub.ConfigureScope(func(scope *sentry.Scope) { scope.SetTags(tags) })
		hub.CaptureException(err)
	}
	return report, func() { client.Flush(sentryTimeout) }, nil
}
