package control

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/bbm-runner/bbm-runner/internal/dbgen"
)

// Fleet returns what holds for every runner of the database: the feature flag and the number of slots.
func (c *Control) Fleet(ctx context.Context) (dbgen.FleetSettings, error) {
	settings, err := queries.FleetGet(ctx, c.Conn)
	if err != nil {
		return settings, fmt.Errorf("read the fleet's settings: %w", err)
	}
	return settings, nil
}

// SetEnabled turns the feature flag on or off. Runners see it after the sub-batch that they are at.
func (c *Control) SetEnabled(ctx context.Context, on bool, reason string) error {
	return c.setFleet(ctx, "execution_enabled", strconv.FormatBool(on), reason)
}

// maxSlots is the CHECK constraint's limit: each slot takes a connection of the server.
const maxSlots = 1000

// SetSlots sets how many jobs the whole fleet may execute at once, 1 to 1000. A runner in a slot above the number ends its job first.
func (c *Control) SetSlots(ctx context.Context, n int, reason string) error {
	if n < 1 || n > maxSlots {
		return inputf("%d slots are not possible; give 1 to %d", n, maxSlots)
	}
	return c.setFleet(ctx, "slots", strconv.Itoa(n), reason)
}

func (c *Control) setFleet(ctx context.Context, setting, value, reason string) error {
	return c.acting(ctx, func(tx pgx.Tx) error {
		err := queries.FleetSet(ctx, tx, dbgen.FleetSetParams{Setting: setting, Value: value, Reason: orNull(reason)})
		if err != nil {
			return fmt.Errorf("set %s of the fleet: %w", setting, err)
		}
		return nil
	})
}
