package control

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// modelChecks is how many sequences of commands an ordinary run of the tests tries; -rapid.checks=1000 for more.
const modelChecks = "6"

func TestCommandsAndRunnerFollowTheModel(t *testing.T) {
	t.Parallel()
	isGiven := false
	flag.Visit(func(f *flag.Flag) { isGiven = isGiven || f.Name == "rapid.checks" })
	if !isGiven {
		require.NoError(t, flag.Set("rapid.checks", modelChecks))
	}
	s := newSubject(t)
	rapid.Check(t, func(t *rapid.T) {
		s.clear(t)
		w := &model{migrations: make(map[string]*modelled)}
		t.Repeat(s.actions(w))
	})
}

// event is one thing that is done to the system and to the model alike.
type event struct {
	name   string
	model  func() (should, stops bool)
	system func(stop func()) error
}

// agree compares success with success; a refusal must be one that tells the user why.
func (e event) agree(t *rapid.T, should bool, err error) {
	t.Logf("%s: %v", e.name, err)
	if should {
		require.NoError(t, err, e.name)
		return
	}
	var input *InputError
	require.True(t, errors.As(err, &input) || errors.Is(err, ErrNotFound), "%s should be refused: %v", e.name, err)
}

// runBoth runs the model and the system, and lets the event, if there is one, happen in the midst of the first job that comes to it.
func (s *subject) runBoth(t *rapid.T, w *model, failures int, e *event) {
	if e == nil {
		t.Logf("run with %d failures", failures)
		w.run(failures, nil)
		s.run(t, failures, nil)
		return
	}
	t.Logf("run with %d failures, and %s", failures, e.name)
	var (
		inModel, inSystem string // where it happened
		should            bool
		err               error
	)
	w.run(failures, func(name string) (stops bool) {
		inModel = name
		should, stops = e.model()
		return stops
	})
	s.run(t, failures, func(name string, stop func()) {
		inSystem = name
		err = e.system(stop)
	})
	require.Equal(t, inModel, inSystem, "the migration whose job came first to its event")
	if inModel != "" {
		e.agree(t, should, err)
	}
}

// actions are the commands, and the runner.
func (s *subject) actions(w *model) map[string]func(*rapid.T) {
	name := rapid.SampledFrom([]string{"x", "y", "z"})
	failures := rapid.IntRange(0, 3)
	return map[string]func(*rapid.T){
		"": func(t *rapid.T) { s.compare(t, w) },
		"enqueue": func(t *rapid.T) {
			o := EnqueueOptions{
				Name: name.Draw(t, "name"), Work: rapid.SampledFrom([]string{workA, workA, workB, workVoid}).Draw(t, "work"),
				Paused: rapid.Bool().Draw(t, "paused"),
			}
			_, err := s.Enqueue(context.Background(), o)
			event{name: fmt.Sprintf("enqueue %+v", o)}.agree(t, w.enqueue(o.Name, o.Work, o.Paused), err)
		},
		"command": func(t *rapid.T) {
			e := s.command(t, w, name.Draw(t, "name"))
			should, _ := e.model()
			e.agree(t, should, e.system(nil))
		},
		"enable or disable": func(t *rapid.T) {
			e := s.gate(w, rapid.Bool().Draw(t, "enabled"))
			_, _ = e.model()
			e.agree(t, true, e.system(nil))
		},
		"run": func(t *rapid.T) { s.runBoth(t, w, failures.Draw(t, "failures"), nil) },
		"run with a command": func(t *rapid.T) {
			e := s.command(t, w, name.Draw(t, "name"))
			s.runBoth(t, w, failures.Draw(t, "failures"), &e)
		},
		"run until disabled": func(t *rapid.T) {
			e := s.gate(w, false)
			s.runBoth(t, w, failures.Draw(t, "failures"), &e)
		},
		"run until stopped": func(t *rapid.T) {
			s.runBoth(t, w, failures.Draw(t, "failures"), &event{
				name:   "stop the runner",
				model:  func() (should, stops bool) { return true, true },
				system: func(stop func()) error { stop(); return nil },
			})
		},
	}
}

// command draws one for a migration.
func (s *subject) command(t *rapid.T, w *model, on string) event {
	ctx := context.Background()
	simple := func(name string, model func(string) bool, system func() error) event {
		return event{name + " " + on, func() (should, stops bool) { return model(on), false }, func(func()) error { return system() }}
	}
	switch rapid.SampledFrom([]string{"pause", "resume", "cancel", "retry", "set", "delete"}).Draw(t, "command") {
	case "pause":
		return simple("pause", w.pause, func() error { return s.Pause(ctx, on, "model") })
	case "resume":
		return simple("resume", w.resume, func() error { return s.Resume(ctx, on, "model", false) })
	case "cancel":
		return simple("cancel", w.cancel, func() error { return s.Cancel(ctx, on, "model") })
	case "retry":
		return simple("retry", w.retry, func() error { return s.Retry(ctx, on, "model", false) })
	case "set":
		n := rapid.IntRange(1, 3).Draw(t, "max_attempts")
		return simple(fmt.Sprint("set max_attempts=", n), func(on string) bool { return w.set(on, n) },
			func() error { return s.Set(ctx, on, "", SetOptions{MaxAttempts: &n}) })
	}
	return simple("delete", w.remove, func() error { return s.Delete(ctx, on) })
}

// gate turns the fleet's flag.
func (s *subject) gate(w *model, on bool) event {
	return event{
		fmt.Sprint("set the fleet enabled: ", on),
		func() (should, stops bool) { w.isDisabled = !on; return true, false },
		func(func()) error { return s.SetEnabled(context.Background(), on, "model") },
	}
}
