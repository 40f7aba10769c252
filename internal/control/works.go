package control

import (
	"strings"

	"github.com/bbm-runner/bbm-runner/internal/work"
)

// work finds a work by its name; an [*InputError] lists those that there are.
func (c *Control) work(name string) (*work.Work, error) {
	var names []string
	if c.Works != nil {
		if w, ok := c.Works.Get(name); ok {
			return w, nil
		}
		for _, w := range c.Works.All() {
			names = append(names, w.Name)
		}
	}
	if names == nil {
		return nil, inputf("there is no work %q, and no other either; is the folder of works right (--works)?", name)
	}
	return nil, inputf("there is no work %q; there are %s", name, strings.Join(names, ", "))
}
