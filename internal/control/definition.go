package control

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
	"github.com/bbm-runner/bbm-runner/internal/work"
)

// maxName is the CHECK constraint's limit for a migration's name, in characters.
const maxName = 100

// enqueueing is one Enqueue: what was asked for, and what is known of it.
type enqueueing struct {
	EnqueueOptions
	name      string
	work      *work.Work
	target    work.Target
	arguments work.Arguments
	changedBy string
}

// request judges what can be judged without the database.
func (c *Control) request(o EnqueueOptions) (enqueueing, error) {
	w, err := c.work(o.Work)
	if err != nil {
		return enqueueing{}, err
	}
	if o.SubBatchAuto {
		unfixed := *w
		unfixed.SubBatchSize = 0
		w = &unfixed
	}
	e := enqueueing{EnqueueOptions: o, name: cmp.Or(o.Name, w.Name), work: w, arguments: work.Arguments{}, changedBy: c.ChangedBy}
	for name, value := range o.Arguments {
		if strings.ContainsRune(value, 0) || !utf8.ValidString(value) {
			return enqueueing{}, inputf("argument %q is not UTF-8 text", name)
		}
		e.arguments[name] = &value
	}
	if err := checkName(e.name); err != nil {
		return enqueueing{}, err
	}
	if err := (tuning{o.BatchSize, o.SubBatchSize, o.Interval, o.Pause, o.MaxAttempts, o.Parallelism}).check(); err != nil {
		return enqueueing{}, err
	}
	if err := checkQuarantine(o.OnRowError, o.QuarantineLimit); err != nil {
		return enqueueing{}, err
	}
	return e, e.checkSizes(dbgen.Migration{})
}

// checkName refuses names that could not be stored, typed or told apart on a screen.
func checkName(name string) error {
	unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
	switch length := utf8.RuneCountInString(name); {
	case strings.TrimSpace(name) == "":
		return inputf("the name is empty; give 1 to %d characters, or leave it out for the name of the work", maxName)
	case length > maxName:
		return inputf("the name has %d characters; give at most %d", length, maxName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unprintable) || name != strings.TrimSpace(name):
		return inputf("%q is no name for a migration; use printable characters, without a space at the ends", name)
	}
	return nil
}

// checkSizes refuses a sub-batch that is larger than its batch, wherever each size comes from. m is the migration that is there, if any.
func (e enqueueing) checkSizes(m dbgen.Migration) error {
	size := cmp.Or(value(e.BatchSize), int(value(m.BatchSize)), e.work.BatchSize, work.DefaultBatchSize)
	subSize := cmp.Or(value(e.SubBatchSize), int(value(m.SubBatchSize)), e.work.SubBatchSize)
	if subSize > size {
		return inputf("the batch size of %d is below the sub-batch size of %d; a sub-batch is a part of a batch", size, subSize)
	}
	return nil
}

// compare returns an [*InputError] that tells in what the migration of that name differs from what
// is asked for, or that it was cancelled: nothing would ever come of it.
func (e enqueueing) compare(m dbgen.Migration) error {
	var differences []string
	differ := func(format string, values ...any) { differences = append(differences, fmt.Sprintf(format, values...)) }
	if m.WorkName != e.work.Name {
		differ("it runs the work %q", m.WorkName)
	}
	if m.TableOid != e.target.Oid {
		differ("it is for the table %s with the oid %d, not %s with the oid %d", m.TableName, m.TableOid, e.target.Name, e.target.Oid)
	}
	if has, err := work.ReadArguments(m.Arguments); err != nil || !maps.EqualFunc(has, e.arguments, sameText) {
		differ("its arguments are %s", m.Arguments)
	}
	remedy := ""
	if m.WorkName == e.work.Name && m.WorkChecksum != nil && *m.WorkChecksum != e.work.Checksum() {
		differ("it runs version %s of the work, and the present one is %s", *m.WorkChecksum, e.work.Checksum())
		if len(differences) == 1 && slices.Contains([]dbgen.MigrationStatus{paused, active, running, failed}, m.Status) {
			remedy = ", or let it go on with the present version (resume or retry, with --accept-work)"
		}
	}
	switch {
	case differences == nil && m.Status == cancelled:
		return inputf("migration %[1]q was cancelled, and enqueueing it again does not bring it back; forget it first (bbm-runner delete %[1]s), "+
			"or give this one another name (--name)", m.Name)
	case differences == nil:
		return nil
	}
	return inputf("the name %q is taken by a migration with another definition: %s; give this one another name (--name)%s",
		m.Name, strings.Join(differences, "; "), remedy)
}

func sameText(a, b *string) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// result describes the migration as it is now.
func (e enqueueing) result(m dbgen.Migration, created bool) EnqueueResult {
	r := EnqueueResult{
		Name: m.Name, Created: created, Status: string(m.Status),
		Work: e.work.Name, Checksum: e.work.Checksum(), Table: e.target.Name, Cursor: e.work.Cursor,
		BatchSize: cmp.Or(int(value(m.BatchSize)), work.DefaultBatchSize), Rows: e.target.Rows,
	}
	if m.SubBatchSize != nil {
		size := int(*m.SubBatchSize)
		r.SubBatchSize = &size
	}
	r.Jobs = (r.Rows + int64(r.BatchSize) - 1) / int64(r.BatchSize)
	if created {
		return r
	}
	if m.WorkChecksum != nil {
		r.IgnoredTuning = e.ignored(m)
	}
	if m.Status == failed {
		r.Warnings = append(r.Warnings, fmt.Sprintf("migration %q has failed; set it going again with: bbm-runner retry %s", m.Name, m.Name))
	}
	return r
}

// ignored lists the tuning that was given and that the migration has otherwise.
func (e enqueueing) ignored(m dbgen.Migration) []string {
	var list []string
	add := func(isGiven bool, name string, given, has any) {
		if isGiven && given != has {
			list = append(list, fmt.Sprintf("%s=%v (it has %v)", name, given, has))
		}
	}
	subBatchSize := any("auto")
	if m.SubBatchSize != nil {
		subBatchSize = int(*m.SubBatchSize)
	}
	add(e.BatchSize != nil, "batch_size", value(e.BatchSize), int(value(m.BatchSize)))
	add(e.SubBatchSize != nil, "sub_batch_size", value(e.SubBatchSize), subBatchSize)
	add(e.SubBatchAuto, "sub_batch_size", any("auto"), subBatchSize)
	add(e.Interval != nil, "interval", value(e.Interval), m.JobInterval)
	add(e.Pause != nil, "pause", value(e.Pause), m.Pause)
	add(e.MaxAttempts != nil, "max_attempts", value(e.MaxAttempts), int(m.MaxAttempts))
	add(e.Parallelism != nil, "parallelism", value(e.Parallelism), int(m.Parallelism))
	add(e.OnRowError != nil, "on_row_error", value(e.OnRowError), string(m.OnRowError))
	add(e.QuarantineLimit != nil, "quarantine_limit", value(e.QuarantineLimit), int(m.QuarantineLimit))
	if e.Paused && m.Status != paused {
		list = append(list, fmt.Sprintf("paused (it is %s)", m.Status))
	}
	return list
}
