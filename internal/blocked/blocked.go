// Package blocked says in one phrase who keeps a migration from changing its rows.
package blocked

import (
	"fmt"
	"strings"
	"time"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// By names whoever is in the way; "" when nobody is. What the role may not see of others is left
// out.
func By(blockers []dbgen.BlockerListRow) string {
	if len(blockers) == 0 {
		return ""
	}
	named := make([]string, len(blockers))
	for i, b := range blockers {
		named[i] = describe(b)
	}
	return "blocked by " + strings.Join(named, ", and by ")
}

func describe(b dbgen.BlockerListRow) string {
	text := "a prepared transaction (see pg_prepared_xacts)"
	if b.Pid != 0 {
		text = fmt.Sprintf("process %d", b.Pid)
	}
	if b.ApplicationName != "" {
		text += fmt.Sprintf(" (%s)", b.ApplicationName)
	}
	if b.TableName != "" {
		text += " on " + b.TableName
	}
	if b.Since != nil {
		text += " since " + b.Since.UTC().Format(time.RFC3339)
	}
	if len(b.QueuesBehind) > 0 {
		behind := make([]string, len(b.QueuesBehind))
		for i, pid := range b.QueuesBehind {
			behind[i] = fmt.Sprintf("process %d", pid)
		}
		text += ", which itself waits for " + strings.Join(behind, " and ")
	}
	return text
}
