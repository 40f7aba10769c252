package work

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// DefaultBatchSize is the number of rows of a job where nothing else is asked for.
const DefaultBatchSize = 50_000

// maxSize is the largest number that an int4 column holds.
const maxSize = math.MaxInt32

// maxCursorColumns is PostgreSQL's limit for the columns of an index (INDEX_MAX_KEYS).
const maxCursorColumns = 32

// Work is what is done to one batch of a table: a file with one SQL statement, or a Go function.
type Work struct {
	Name, Description string
	Path              string   // of the file; "" for a Go work
	Table             string   // as written in SQL: public.users, "Odd Name"."T"
	Cursor            []string // the columns whose order cuts the table into ranges, named as the catalog has them
	Scope             string   // a predicate on the table, served by a partial index: only its rows are walked; "" for all rows
	Remaining         string   // a predicate that holds for rows which are still to be changed; "" for no proof of done
	RepeatedKeys      bool     // rows of equal keys are allowed and stay in one sub-batch
	SearchPath        []string // schemas, after pg_catalog; nil for none
	TimeZone          string   // of the session; "" for UTC
	BatchSize         int      // rows of a job; 0 for the default
	SubBatchSize      int      // rows of a transaction; 0 for adaptive
	Arguments         []Argument
	Version           string // of a Go work; changed whenever what Do does changes
	Do                DoFunc // nil for a work in SQL
	ExternalEffects   bool   // of a Go work: Do changes what a rollback does not undo, so it is never run on trial

	statement     *template // nil for a work in Go
	scopeLine     int       // of the file; 0 without a scope and for a Go work
	remainingLine int       // likewise
}

// StatementLine returns the line of the file on which the statement begins, 0 for a Go work. Line breaks of the file and of the text that
// [Statements.Work] returns correspond from there on, so that a position in the one leads to a line in the other.
func (w *Work) StatementLine() int {
	if w.statement == nil {
		return 0
	}
	return w.statement.line
}

// DoFunc changes the rows of one batch inside the sub-batch's transaction, which it must not end, and returns how many it changed.
type DoFunc func(ctx context.Context, tx pgx.Tx, b Batch) (affected int64, err error)

// Key is one position in the cursor's order: a text form for each cursor column, written by PostgreSQL. nil stands for no bound. Keys are
// opaque: only the server compares them.
type Key []string

// Range is half open: rows above After, up to and including Until. After is nil for a migration's first range.
type Range struct {
	After, Until Key
}

// definition is what the checksum covers: all that decides what a work does to a row, and what remains to be done: else two runners would walk one
// table by two predicates, and prove nothing.
type definition struct {
	Name, Version string // of Go works only
	Statement     string
	Table, Cursor []string
	Scope         string `json:",omitempty"` // left out where there is none, as in checksums from before there were scopes
	Remaining     string `json:",omitempty"` // likewise
	RepeatedKeys  bool
	SearchPath    []string
	TimeZone      string
	Arguments     []Argument
}

// Checksum identifies what the work does. It changes with the statement's tokens, the table, the cursor, the tokens of scope and remaining, repeated_keys,
// search_path, timezone and the arguments, or with a Go work's name and version; not with comments, layout, line endings, description or sizes.
func (w *Work) Checksum() string {
	table, err := w.TableName()
	if err != nil {
		table = []string{w.Table}
	}
	d := definition{
		Table: table, Cursor: w.Cursor, Scope: w.scopeCondition().canonical(), Remaining: w.remainingCondition().canonical(), RepeatedKeys: w.RepeatedKeys,
		SearchPath: w.SearchPath, TimeZone: w.TimeZone,
		Arguments: slices.SortedFunc(slices.Values(w.Arguments), func(a, b Argument) int { return strings.Compare(a.Name, b.Name) }),
	}
	if w.statement == nil {
		d.Name, d.Version = w.Name, w.Version
	} else {
		d.Statement = w.statement.canonical
	}
	encoded, err := json.Marshal(d)
	if err != nil {
		panic(err) // strings and booleans always encode
	}
	sum := sha256.Sum256(encoded)
	// 64 bits tell apart the few works of a team and stay short enough to read aloud.
	return hex.EncodeToString(sum[:8])
}
