package preview

import (
	"encoding/json"

	"github.com/bbm-runner/bbm-runner/internal/work"
)

// Explanation is what would run. The JSON names are stable: they are added to, never renamed.
type Explanation struct {
	Work         string         `json:"work"`
	Checksum     string         `json:"checksum"`
	Migration    *string        `json:"migration"` // null where a work is explained
	Table        string         `json:"table"`
	Cursor       []string       `json:"cursor"`
	CursorIndex  []string       `json:"cursor_indexes"` // what the boundary query walks: one, or one for each partition that its plan names
	Scope        *string        `json:"scope"`          // null for all rows
	Arguments    work.Arguments `json:"arguments"`
	Rows         int64          `json:"rows"` // in the scope; an estimate, as those of jobs and sub-batches
	BatchSize    int            `json:"batch_size"`
	SubBatchSize int            `json:"sub_batch_size"`
	IsAdaptive   bool           `json:"is_adaptive"` // the size of sub-batches is the first, and the runner changes it
	Jobs         int64          `json:"jobs"`
	SubBatches   int64          `json:"sub_batches"`
	Role         string         `json:"role"`
	Settings     []Setting      `json:"settings"`
	Range        *Range         `json:"range"`     // null for an empty table, which has no plans either
	Boundary     *Statement     `json:"boundary"`  // null for an empty table
	Statement    *Statement     `json:"statement"` // null for a work in Go, too
	Sizes        []SizePlan     `json:"sizes"`     // the statement's plans for the smallest and the largest size; none where the size is fixed
	Remaining    *Statement     `json:"remaining"` // the look for rows that remain; null where the work does not say which
	Writes       []Write        `json:"writes"`
	Warnings     []Warning      `json:"warnings"`
}

// Setting is one of the session's, as a run has it.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Range is where the statements were planned for: rows above After, up to and including Until.
type Range struct {
	After work.Key `json:"after"` // null: no lower bound, as at the beginning
	Until work.Key `json:"until"`
	Rows  int64    `json:"rows"`
	Found string   `json:"found"` // how the place was found
}

// Statement is a text exactly as a run sends it.
type Statement struct {
	Before     *string         `json:"before"` // what the run sends first, in the same transaction; null for nothing
	SQL        string          `json:"sql"`
	Parameters []any           `json:"parameters"` // $1, $2, …
	Plan       json.RawMessage `json:"plan"`       // EXPLAIN (FORMAT JSON, VERBOSE, SETTINGS)
	PlanText   string          `json:"plan_text"`
}

// Write is one table that the statement writes to, with what that drags along.
type Write struct {
	Table       string       `json:"table"`
	Operation   string       `json:"operation"` // insert, update, delete or merge; unknown for a work in Go
	Columns     []string     `json:"columns"`   // that an UPDATE, an ON CONFLICT or a MERGE assigns, and what is generated from these
	Rows        int64        `json:"rows"`      // of the whole table; an estimate
	Fillfactor  int          `json:"fillfactor"`
	HOT         *HOT         `json:"hot"` // null where no row is updated
	Indexes     []Index      `json:"indexes"`
	Triggers    []Trigger    `json:"triggers"`
	ForeignKeys []ForeignKey `json:"foreign_keys"`
}

// HOT is whether an updated row can stay in its page and out of all indexes (heap-only tuple).
type HOT struct {
	IsPossible bool     `json:"is_possible"`
	BlockedBy  []string `json:"blocked_by"` // the indexes that depend on an assigned column
	Meaning    string   `json:"meaning"`
}

// Index is one that the write has to keep up.
type Index struct {
	Name       string   `json:"name"`
	Definition string   `json:"definition"`
	Columns    []string `json:"columns"` // all that it depends on: keys, INCLUDE, expressions, predicate
	IsValid    bool     `json:"is_valid"`
	IsChanged  bool     `json:"is_changed"` // it depends on a column that is assigned
	Method     string   `json:"method"`
}

// Trigger is one that the write can fire.
type Trigger struct {
	Name       string `json:"name"`
	Table      string `json:"table"`
	Function   string `json:"function"`
	Timing     string `json:"timing"` // before row, after row, before statement, after statement
	IsEnabled  bool   `json:"is_enabled"`
	IsDefiner  bool   `json:"is_security_definer"`
	IsDeferred bool   `json:"is_deferrable"`
}

// ForeignKey is one that the write makes the server check.
type ForeignKey struct {
	Name              string   `json:"name"`
	Table             string   `json:"table"`
	Columns           []string `json:"columns"`
	ReferencedTable   string   `json:"referenced_table"`
	ReferencedColumns []string `json:"referenced_columns"`
	Direction         string   `json:"direction"` // outgoing: of the written table; incoming: of a table that refers to it
	Action            string   `json:"action"`    // of an incoming one: no action, restrict, cascade, set null, set default
	IsDeferred        bool     `json:"is_deferred"`
	IsValidated       bool     `json:"is_validated"`
	IsIndexed         bool     `json:"is_indexed"` // an index finds the referring rows
}
