package cli

import (
	"fmt"
	"time"
)

// say tells one thing that has happened. A line is to fit into 80 columns.
func (d *demo) say(format string, values ...any) {
	fmt.Fprintf(d.Stdout, "• "+format+"\n", values...)
}

// timed tells what is done before it is, and on a terminal for how long already, so that nobody
// takes a long step for a hung one.
func (d *demo) timed(what string, do func() error) func() error {
	return func() error {
		if !d.isLive(d.Stdout) {
			d.say("%s", what)
			return do()
		}
		began := time.Now()
		show := func() { fmt.Fprintf(d.Stdout, "\r• %s  %s", what, time.Since(began).Round(time.Second)) }
		show()
		done, shown := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(shown)
			for {
				select {
				case <-done:
					return
				case <-time.After(time.Second):
					show()
				}
			}
		}()
		err := do()
		close(done)
		<-shown
		show()
		fmt.Fprintln(d.Stdout)
		return err
	}
}
