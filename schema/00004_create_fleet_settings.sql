-- +goose Up
CREATE TABLE bbm.fleet_settings (
    id boolean NOT NULL DEFAULT true,
    execution_enabled boolean NOT NULL DEFAULT false,
    slots integer NOT NULL DEFAULT 1,
    changed_by text NOT NULL DEFAULT session_user,
    reason text,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT fleet_settings_pkey PRIMARY KEY (id),
    CONSTRAINT fleet_settings_one_row_check CHECK (id),
    CONSTRAINT fleet_settings_slots_check CHECK (slots BETWEEN 1 AND 1000)
);

COMMENT ON TABLE bbm.fleet_settings IS 'One row: what holds for every runner of this database.';
COMMENT ON COLUMN bbm.fleet_settings.execution_enabled IS 'The feature flag: no runner claims or executes anything while it is off.';
COMMENT ON COLUMN bbm.fleet_settings.slots IS 'How many jobs the whole fleet may execute at once.';

INSERT INTO bbm.fleet_settings DEFAULT VALUES;

-- +goose Down
DROP TABLE bbm.fleet_settings;
