package work

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Registry holds the works that a runner has, by name. It is read-only and safe for concurrent use.
type Registry struct {
	works  []*Work
	byName map[string]*Work
}

// NewRegistry returns a [*DirError] for names that are taken twice and for Go works that are
// incomplete; the registry beside it holds the others. Of works that share a name none is taken:
// nobody can tell which was meant.
func NewRegistry(works ...*Work) (*Registry, error) {
	r := &Registry{byName: make(map[string]*Work, len(works))}
	var broken []*BrokenWork
	first := make(map[string]*Work, len(works))
	for _, w := range works {
		if other := first[w.Name]; other != nil {
			delete(r.byName, w.Name)
			broken = append(broken, &BrokenWork{w.Name, fmt.Errorf("two works are called %q: %s and %s; rename one", w.Name, other.origin(), w.origin())})
			continue
		}
		first[w.Name] = w
		if err := w.check(); err != nil {
			broken = append(broken, &BrokenWork{w.Name, err})
			continue
		}
		r.byName[w.Name] = w
	}
	r.works = slices.SortedFunc(maps.Values(r.byName), func(a, b *Work) int { return strings.Compare(a.Name, b.Name) })
	if broken != nil {
		return r, &DirError{broken}
	}
	return r, nil
}

// Get returns the work of that name.
func (r *Registry) Get(name string) (*Work, bool) {
	w, ok := r.byName[name]
	return w, ok
}

// All returns the works, sorted by name.
func (r *Registry) All() []*Work { return slices.Clone(r.works) }

// origin says where the work comes from.
func (w *Work) origin() string {
	if w.Path != "" {
		return w.Path
	}
	return "a Go work"
}

// check judges a work that was written in Go as strictly as the parser judges a file.
func (w *Work) check() error {
	if err := checkWorkName(w.Name); err != nil {
		return err
	}
	if w.statement != nil {
		return nil
	}
	if err := w.checkGo(); err != nil {
		return fmt.Errorf("work %q, written in Go: %w", w.Name, err)
	}
	return nil
}

func (w *Work) checkGo() error {
	switch {
	case w.Do == nil:
		return errors.New("it has no function; set Do")
	case w.Version == "":
		return errors.New("it has no version; set Version, and change it whenever Do does something else")
	case w.Table == "":
		return errors.New(`it has no table; set Table, as in "public.users"`)
	case slices.ContainsFunc([]int{w.BatchSize, w.SubBatchSize}, func(size int) bool { return size < 0 || size > maxSize }):
		return fmt.Errorf("its batch sizes are %d and %d; give 1 to %d, or 0 for the default", w.BatchSize, w.SubBatchSize, maxSize)
	}
	if _, err := w.TableName(); err != nil {
		return err
	}
	if err := checkCursor(w.Cursor); err != nil {
		return err
	}
	if err := checkSearchPath(w.SearchPath); err != nil {
		return err
	}
	for _, c := range []condition{w.scopeCondition(), w.remainingCondition()} {
		if err := c.check(); err != nil {
			return err
		}
	}
	for _, argument := range w.Arguments {
		if err := checkArgument(argument); err != nil {
			return err
		}
	}
	if name, repeated := firstRepeated(w.argumentNames()); repeated {
		return fmt.Errorf("argument %q is declared twice; declare each once", name)
	}
	if err := w.checkSizes(); err != nil {
		return err
	}
	return w.checkSchema()
}

// checkSizes refuses a sub-batch that is larger than its batch.
func (w *Work) checkSizes() error {
	size := cmp.Or(w.BatchSize, DefaultBatchSize)
	if w.SubBatchSize > size {
		return fmt.Errorf("sub_batch_size %d is above the batch size of %d; a sub-batch is a part of a batch", w.SubBatchSize, size)
	}
	return nil
}

// checkSchema refuses a table that no search path leads to.
func (w *Work) checkSchema() error {
	if names, err := w.TableName(); err == nil && len(names) == 1 && len(w.SearchPath) == 0 {
		return fmt.Errorf("table %s has no schema; write schema.%s, since only pg_catalog is searched", w.Table, w.Table)
	}
	return nil
}
