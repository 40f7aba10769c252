package control

import (
	"context"
	"fmt"
	"time"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// SettingChange is a row of setting_changes under its column names. Times are in UTC.
type SettingChange struct {
	ID          int64     `json:"id"`
	MigrationID *int64    `json:"batched_background_migration_id"` // null: a setting of the fleet
	CreatedAt   time.Time `json:"created_at"`
	Setting     string    `json:"setting"`
	OldValue    *string   `json:"old_value"`
	NewValue    *string   `json:"new_value"`
	ChangedBy   string    `json:"changed_by"`
	SessionRole string    `json:"session_role"`
	Reason      *string   `json:"reason"`
}

// FleetChanges returns the changes of what holds for every runner of the database, in order, with
// who made them and why.
func (c *Control) FleetChanges(ctx context.Context) ([]SettingChange, error) {
	rows, err := queries.FleetChangeList(ctx, c.Conn)
	if err != nil {
		return nil, fmt.Errorf("list the history of the fleet: %w", err)
	}
	return readChanges(rows), nil
}

// SettingChanges returns the changes of a migration's settings, in order, with who made them and
// why. [ErrNotFound] when there is none of that name.
func (c *Control) SettingChanges(ctx context.Context, name string) ([]SettingChange, error) {
	m, err := c.get(ctx, name)
	if err != nil {
		return nil, err
	}
	rows, err := queries.SettingChangeList(ctx, c.Conn, m.ID)
	if err != nil {
		return nil, fmt.Errorf("list the changes of %q: %w", name, err)
	}
	return readChanges(rows), nil
}

func readChanges(rows []dbgen.SettingChange) []SettingChange {
	changes := make([]SettingChange, len(rows))
	for i, row := range rows {
		changes[i] = SettingChange{
			row.ID, row.BatchedBackgroundMigrationID, row.CreatedAt.UTC(), row.Setting, row.OldValue, row.NewValue,
			row.ChangedBy, row.SessionRole, row.Reason,
		}
	}
	return changes
}
