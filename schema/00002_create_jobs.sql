-- +goose Up
CREATE TYPE bbm.job_status AS ENUM ('pending', 'running', 'failed', 'succeeded');

-- The fill factor leaves room for the progress of each sub-batch to be a HOT update: it changes no indexed column.
CREATE TABLE bbm.batched_background_migration_jobs (
    id bigint GENERATED ALWAYS AS IDENTITY,
    batched_background_migration_id bigint NOT NULL,
    pass integer NOT NULL DEFAULT 0,
    is_single_row boolean NOT NULL DEFAULT false,
    after_key text[],
    until_key text[] NOT NULL,
    progress_key text[],
    status bbm.job_status NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    claims bigint NOT NULL DEFAULT 0,
    stalls integer NOT NULL DEFAULT 0,
    slot integer,
    runner text,
    processed_rows bigint NOT NULL DEFAULT 0,
    affected_rows bigint NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    exception_class text,
    exception_message text,
    exception_key text[],
    exception_constraint text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz,
    CONSTRAINT batched_background_migration_jobs_pkey PRIMARY KEY (id),
    CONSTRAINT batched_background_migration_jobs_migration_fkey FOREIGN KEY (batched_background_migration_id)
        REFERENCES bbm.batched_background_migrations (id) ON DELETE CASCADE,
    CONSTRAINT batched_background_migration_jobs_pass_check CHECK (pass >= 0),
    CONSTRAINT batched_background_migration_jobs_single_row_check CHECK (pass > 0 OR NOT is_single_row),
    CONSTRAINT batched_background_migration_jobs_running_check CHECK (status <> 'running' OR slot IS NOT NULL),
    CONSTRAINT batched_background_migration_jobs_waiting_check
        CHECK ((status IN ('pending', 'failed')) = (next_attempt_at IS NOT NULL)),
    CONSTRAINT batched_background_migration_jobs_finished_at_check CHECK ((status = 'succeeded') = (finished_at IS NOT NULL)),
    CONSTRAINT batched_background_migration_jobs_exception_class_check CHECK (char_length(exception_class) <= 100),
    CONSTRAINT batched_background_migration_jobs_exception_message_check CHECK (char_length(exception_message) <= 1000)
) WITH (fillfactor = 80);

COMMENT ON TABLE bbm.batched_background_migration_jobs IS 'One tracked range of a migration, (after_key, until_key]; retried as a unit.';
COMMENT ON COLUMN bbm.batched_background_migration_jobs.pass IS
    '0: cut at the frontier; these jobs tile the range of the migration. Above 0: goes again over a part of it, to change rows that were left out or came later.';
COMMENT ON COLUMN bbm.batched_background_migration_jobs.is_single_row IS
    'Whether the job is about the row of until_key alone, whatever else has come to be between its keys.';
COMMENT ON COLUMN bbm.batched_background_migration_jobs.exception_key IS 'The row on which the last attempt failed, where it was narrowed down to one.';
COMMENT ON COLUMN bbm.batched_background_migration_jobs.progress_key IS 'The key up to which the range is done; commits with the data.';
COMMENT ON COLUMN bbm.batched_background_migration_jobs.attempts IS 'Failures so far.';
COMMENT ON COLUMN bbm.batched_background_migration_jobs.claims IS 'Starts so far; the fencing token of the runner that executes the job.';
COMMENT ON COLUMN bbm.batched_background_migration_jobs.stalls IS 'Interruptions in a row without progress.';

CREATE INDEX batched_background_migration_jobs_migration_idx
    ON bbm.batched_background_migration_jobs (batched_background_migration_id, id);
CREATE INDEX batched_background_migration_jobs_waiting_idx
    ON bbm.batched_background_migration_jobs (batched_background_migration_id, next_attempt_at, id)
    WHERE status IN ('pending', 'failed');
-- The predicates of these two follow from no status alone: else the planner, to which they look small, walks them for
-- a running job that it could find by its id.
CREATE INDEX batched_background_migration_jobs_unsucceeded_idx
    ON bbm.batched_background_migration_jobs (batched_background_migration_id, status, id) WHERE finished_at IS NULL;
CREATE INDEX batched_background_migration_jobs_running_slot_idx
    ON bbm.batched_background_migration_jobs (slot) WHERE status = 'running' AND slot IS NOT NULL;

-- +goose Down
DROP TABLE bbm.batched_background_migration_jobs;
DROP TYPE bbm.job_status;
