package work

import (
	"encoding/json"
	"fmt"
	"slices"
)

// RowSet is what decides which rows a run walks over, and in which order. It is pinned with the
// work's version: an upper bound that was fixed for one set of rows is none for another.
type RowSet struct {
	Order []string `json:"order"` // of each cursor column's keys: types that sort alike have the same name
	Scope string   `json:"scope,omitempty"`
	// The settings by which the scope is read; none without a scope.
	SearchPath []string `json:"search_path,omitempty"`
	TimeZone   string   `json:"timezone,omitempty"`
}

// RowSet is that of the work on its target.
func (w *Work) RowSet(t Target) RowSet {
	set := RowSet{Order: t.Order}
	if w.Scope != "" {
		set.Scope, set.SearchPath, set.TimeZone = w.scopeCondition().canonical(), w.SearchPath, w.TimeZoneSetting()
	}
	return set
}

// Pinned is the form in which the set is stored.
func (s RowSet) Pinned() json.RawMessage {
	encoded, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings always encode
	}
	return encoded
}

// ReadRowSet reads what [RowSet.Pinned] has written; nil where nothing is pinned.
func ReadRowSet(pinned json.RawMessage) (*RowSet, error) {
	if pinned == nil {
		return nil, nil
	}
	var set RowSet
	if err := json.Unmarshal(pinned, &set); err != nil {
		return nil, fmt.Errorf("read the pinned set of rows: %w", err)
	}
	return &set, nil
}

// Covers reports whether a bound that was fixed for this set is one for the other: that of all rows
// is one for each scope.
func (s RowSet) Covers(other RowSet) bool {
	return s.Scope == "" || s.Scope == other.Scope && s.TimeZone == other.TimeZone && slices.Equal(s.SearchPath, other.SearchPath)
}

// Shared is the set of rows that belong to both: what has been visited for certain when some jobs
// walked over the one, and others over the other.
func (s RowSet) Shared(other RowSet) RowSet {
	switch {
	case s.Scope == "":
		return other
	case other.Scope == "", s.Covers(other):
		return s
	}
	both := s
	both.Scope = fmt.Sprintf("(%s) AND (%s, timezone %s, search_path %s)", s.Scope, other.Scope, other.TimeZone, WriteNames(other.SearchPath))
	return both
}

// SameOrder reports whether keys of the two sets are in the same order.
func (s RowSet) SameOrder(other RowSet) bool { return slices.Equal(s.Order, other.Order) }

// String says which rows are meant.
func (s RowSet) String() string {
	switch {
	case s.Scope == "":
		return "all rows"
	case s.SearchPath == nil:
		return fmt.Sprintf("the scope %s (timezone %s)", s.Scope, s.TimeZone)
	}
	return fmt.Sprintf("the scope %s (search_path %s, timezone %s)", s.Scope, WriteNames(s.SearchPath), s.TimeZone)
}

// orderOf names the order of a key type's values: those of one name sort alike, and their texts are
// read alike, so that a column may be widened while a migration is under way.
func orderOf(keyType, collation string) string {
	switch keyType {
	case "smallint", "integer", "bigint", "numeric":
		return "number"
	case "text", "character varying":
		return "text, collation " + collation
	}
	return keyType
}
