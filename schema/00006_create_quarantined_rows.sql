-- +goose Up

-- A key may be longer than an index allows, so none is on it: rows of a migration are few, by its quarantine_limit.
-- Job ids refer to jobs that live as long as the migration; a foreign key would cost each delete a look for each job.
CREATE TABLE bbm.batched_background_migration_quarantined_rows (
    id bigint GENERATED ALWAYS AS IDENTITY,
    batched_background_migration_id bigint NOT NULL,
    batched_background_migration_job_id bigint NOT NULL,
    retry_job_id bigint,
    after_key text[],
    row_key text[] NOT NULL,
    failures integer NOT NULL DEFAULT 1,
    exception_class text NOT NULL,
    exception_message text NOT NULL,
    exception_constraint text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    mended_at timestamptz,
    CONSTRAINT batched_background_migration_quarantined_rows_pkey PRIMARY KEY (id),
    CONSTRAINT batched_background_migration_quarantined_rows_migration_fkey FOREIGN KEY (batched_background_migration_id)
        REFERENCES bbm.batched_background_migrations (id) ON DELETE CASCADE,
    CONSTRAINT batched_background_migration_quarantined_rows_mended_check CHECK (mended_at IS NULL OR retry_job_id IS NULL),
    CONSTRAINT batched_background_migration_quarantined_rows_class_check CHECK (char_length(exception_class) <= 100),
    CONSTRAINT batched_background_migration_quarantined_rows_message_check CHECK (char_length(exception_message) <= 1000)
);

COMMENT ON TABLE bbm.batched_background_migration_quarantined_rows IS
    'Rows that failed alone and were left out of their migration.';
COMMENT ON COLUMN bbm.batched_background_migration_quarantined_rows.batched_background_migration_job_id IS 'The job that left the row out last.';
COMMENT ON COLUMN bbm.batched_background_migration_quarantined_rows.retry_job_id IS 'The job that is to try the row again; null while it rests.';
COMMENT ON COLUMN bbm.batched_background_migration_quarantined_rows.after_key IS 'The key before it, when the row was left out.';
COMMENT ON COLUMN bbm.batched_background_migration_quarantined_rows.mended_at IS
    'When a job that tried the row again has succeeded: it was changed after all, or is gone. Null: it is left out.';
COMMENT ON COLUMN bbm.batched_background_migration_quarantined_rows.failures IS 'How often the row was left out.';

CREATE INDEX batched_background_migration_quarantined_rows_migration_idx
    ON bbm.batched_background_migration_quarantined_rows (batched_background_migration_id, id);
CREATE UNIQUE INDEX batched_background_migration_quarantined_rows_retry_job_idx
    ON bbm.batched_background_migration_quarantined_rows (retry_job_id) WHERE retry_job_id IS NOT NULL;

-- +goose Down
DROP TABLE bbm.batched_background_migration_quarantined_rows;
