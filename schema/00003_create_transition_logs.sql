-- +goose Up
CREATE TABLE bbm.batched_background_migration_job_transition_logs (
    id bigint GENERATED ALWAYS AS IDENTITY,
    batched_background_migration_job_id bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    previous_status bbm.job_status,
    next_status bbm.job_status NOT NULL,
    attempt integer NOT NULL,
    exception_class text,
    exception_message text,
    exception_key text[],
    exception_constraint text,
    CONSTRAINT batched_background_migration_job_transition_logs_pkey PRIMARY KEY (id, created_at),
    CONSTRAINT batched_background_migration_job_transition_logs_job_fkey FOREIGN KEY (batched_background_migration_job_id)
        REFERENCES bbm.batched_background_migration_jobs (id) ON DELETE CASCADE,
    CONSTRAINT batched_background_migration_job_transition_logs_class_check CHECK (char_length(exception_class) <= 100),
    CONSTRAINT batched_background_migration_job_transition_logs_message_check CHECK (char_length(exception_message) <= 1000)
) PARTITION BY RANGE (created_at);

COMMENT ON TABLE bbm.batched_background_migration_job_transition_logs IS 'Every change of a job''s status, its creation included, by month.';
COMMENT ON COLUMN bbm.batched_background_migration_job_transition_logs.attempt IS 'The attempt that the change belongs to, from 1.';

-- For the cascade, and for reading one job's history.
CREATE INDEX batched_background_migration_job_transition_logs_job_idx
    ON bbm.batched_background_migration_job_transition_logs (batched_background_migration_job_id, id);

-- The safety net: a row is logged even where no month has been made for it.
CREATE TABLE bbm.batched_background_migration_job_transition_logs_default
    PARTITION OF bbm.batched_background_migration_job_transition_logs DEFAULT;

CREATE TABLE bbm.batched_background_migration_transition_logs (
    id bigint GENERATED ALWAYS AS IDENTITY,
    batched_background_migration_id bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    previous_status bbm.migration_status,
    next_status bbm.migration_status NOT NULL,
    changed_by text NOT NULL,
    reason text,
    CONSTRAINT batched_background_migration_transition_logs_pkey PRIMARY KEY (id),
    CONSTRAINT batched_background_migration_transition_logs_migration_fkey FOREIGN KEY (batched_background_migration_id)
        REFERENCES bbm.batched_background_migrations (id) ON DELETE CASCADE
);

COMMENT ON TABLE bbm.batched_background_migration_transition_logs IS 'Every change of a migration''s status, its creation included, with who made it and why.';

CREATE INDEX batched_background_migration_transition_logs_migration_idx
    ON bbm.batched_background_migration_transition_logs (batched_background_migration_id, id);

-- +goose Down
DROP TABLE bbm.batched_background_migration_transition_logs;
DROP TABLE bbm.batched_background_migration_job_transition_logs;
