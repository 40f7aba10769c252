package preview

import (
	"fmt"
	"slices"
	"strings"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// summarizingSince is the server version from which an index that only summarizes pages does not stop a heap-only update.
const summarizingSince = 16_00_00

// hot judges whether updated rows can stay in their pages and out of all indexes. PostgreSQL compares values, so a column that is assigned the value that
// it has does not count; here every assigned one does.
func (st *stage) hot(w Write, role dbgen.PreviewRoleRow) *HOT {
	h := &HOT{BlockedBy: []string{}}
	var summarizing []string
	for _, i := range w.Indexes {
		switch {
		case !i.IsChanged:
		case i.Method == "brin" && role.ServerVersion >= summarizingSince:
			summarizing = append(summarizing, i.Name)
		default:
			h.BlockedBy = append(h.BlockedBy, i.Name)
		}
	}
	h.IsPossible = len(h.BlockedBy) == 0
	room := 100 - w.Fillfactor
	switch {
	case !h.IsPossible:
		h.Meaning = fmt.Sprintf("no: %s depends on an assigned column, so each row that gets another value there gets a new entry in %s of the table: "+
			"about %d records of WAL a row, and old entries that stay until VACUUM", strings.Join(h.BlockedBy, ", "), allIndexes(w), len(w.Indexes)+1)
		st.warn("indexed_column", "the update of %s assigns what %s depends on: its rows are written to %s, and the old entries stay until VACUUM",
			w.Table, strings.Join(h.BlockedBy, ", "), allIndexes(w))
	case room == 0:
		h.Meaning = fmt.Sprintf("where the page has room: no assigned column is indexed, but fillfactor 100 leaves none in full pages; a row that moves to another page "+
			"gets a new entry in %s", allIndexes(w))
		st.warn("no_room", "%s has fillfactor 100: in full pages its updated rows find no room, move, and are written to %s; a lower fillfactor holds for "+
			"pages that are filled from then on (VACUUM FULL rewrites all)", w.Table, allIndexes(w))
	default:
		h.Meaning = fmt.Sprintf("yes, where the page has room: no assigned column is indexed, and fillfactor %d keeps %d %% of a page free; such a row costs one record of "+
			"WAL and no index entry, and its old version is cleared without VACUUM", w.Fillfactor, room)
	}
	if summarizing != nil {
		h.Meaning += "; " + strings.Join(summarizing, ", ") + " (BRIN) is brought up to date in place"
	}
	if slices.ContainsFunc(w.Triggers, func(t Trigger) bool { return t.IsEnabled && t.Timing == beforeRow }) {
		h.Meaning += "; a trigger before each row may assign more"
	}
	return h
}

func allIndexes(w Write) string {
	if len(w.Indexes) == 1 {
		return "the only index"
	}
	return fmt.Sprintf("all %d indexes", len(w.Indexes))
}
