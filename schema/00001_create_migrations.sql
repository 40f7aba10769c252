-- +goose Up
CREATE TYPE bbm.migration_status AS ENUM ('paused', 'active', 'running', 'finished', 'failed', 'cancelled');
CREATE TYPE bbm.migration_failure_code AS ENUM (
    'invalid_table', 'invalid_cursor', 'invalid_work', 'invalid_arguments', 'max_attempts', 'rows_remaining'
);
CREATE TYPE bbm.row_error_policy AS ENUM ('fail', 'quarantine');

-- A hundred rows can be looked at one by one; where more fail, it is the work that should be mended.
CREATE TABLE bbm.batched_background_migrations (
    id bigint GENERATED ALWAYS AS IDENTITY,
    name text NOT NULL,
    work_name text NOT NULL,
    work_checksum text,
    arguments jsonb NOT NULL DEFAULT '{}',
    table_name text NOT NULL,
    table_oid oid NOT NULL,
    root_table_oid oid NOT NULL,
    cursor_columns text[],
    remaining_predicate text,
    awaited_transactions text[],
    max_key text[],
    frontier_key text[],
    batch_size integer,
    sub_batch_size integer,
    learned_sub_batch_size integer,
    asynchronous_commit boolean NOT NULL DEFAULT true,
    job_interval interval NOT NULL DEFAULT '0',
    pause interval NOT NULL DEFAULT '0',
    max_attempts integer NOT NULL DEFAULT 5,
    parallelism integer NOT NULL DEFAULT 1,
    on_row_error bbm.row_error_policy NOT NULL DEFAULT 'fail',
    quarantine_limit integer NOT NULL DEFAULT 100,
    quarantined_rows bigint NOT NULL DEFAULT 0,
    status bbm.migration_status NOT NULL,
    failure_error_code bbm.migration_failure_code,
    failure_message text,
    on_hold_until timestamptz,
    hold_reason text,
    total_tuple_count bigint,
    succeeded_jobs bigint NOT NULL DEFAULT 0,
    processed_rows bigint NOT NULL DEFAULT 0,
    affected_rows bigint NOT NULL DEFAULT 0,
    last_claimed_at timestamptz,
    enqueued_by text NOT NULL DEFAULT session_user,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz,
    verified_at timestamptz,
    verified_rows bigint,
    verified_statement text,
    CONSTRAINT batched_background_migrations_pkey PRIMARY KEY (id),
    CONSTRAINT batched_background_migrations_name_key UNIQUE (name),
    CONSTRAINT batched_background_migrations_name_check CHECK (char_length(name) BETWEEN 1 AND 100 AND name !~ '[[:cntrl:]]'),
    CONSTRAINT batched_background_migrations_work_name_check CHECK (char_length(work_name) BETWEEN 1 AND 100),
    CONSTRAINT batched_background_migrations_arguments_check CHECK (jsonb_typeof(arguments) = 'object'),
    CONSTRAINT batched_background_migrations_batch_size_check CHECK (batch_size >= 1),
    CONSTRAINT batched_background_migrations_sub_batch_size_check CHECK (sub_batch_size BETWEEN 1 AND batch_size),
    CONSTRAINT batched_background_migrations_job_interval_check CHECK (job_interval >= '0'),
    CONSTRAINT batched_background_migrations_pause_check CHECK (pause >= '0'),
    CONSTRAINT batched_background_migrations_max_attempts_check CHECK (max_attempts >= 1),
    CONSTRAINT batched_background_migrations_parallelism_check CHECK (parallelism >= 1),
    CONSTRAINT batched_background_migrations_quarantine_limit_check CHECK (quarantine_limit BETWEEN 1 AND 10000),
    CONSTRAINT batched_background_migrations_quarantined_rows_check CHECK (quarantined_rows >= 0),
    CONSTRAINT batched_background_migrations_failure_check CHECK (status <> 'failed' OR failure_error_code IS NOT NULL),
    CONSTRAINT batched_background_migrations_finished_at_check CHECK ((status = 'finished') = (finished_at IS NOT NULL)),
    CONSTRAINT batched_background_migrations_proof_check CHECK (status <> 'finished' OR remaining_predicate IS NULL OR verified_at IS NOT NULL),
    CONSTRAINT batched_background_migrations_hold_check CHECK ((on_hold_until IS NULL) = (hold_reason IS NULL))
);

COMMENT ON TABLE bbm.batched_background_migrations IS 'One run of a work over the key range of a table.';
COMMENT ON COLUMN bbm.batched_background_migrations.work_checksum IS 'What the work did when it was pinned; null until a runner or an enqueue that knows the work has pinned it.';
COMMENT ON COLUMN bbm.batched_background_migrations.table_oid IS 'The target itself.';
COMMENT ON COLUMN bbm.batched_background_migrations.root_table_oid IS 'The topmost partitioned parent of the target, or the target: what two migrations may not run on together.';
COMMENT ON COLUMN bbm.batched_background_migrations.awaited_transactions IS 'Virtual transactions that were open when a runner first saw the migration; the upper bound is fixed when the last of them has ended.';
COMMENT ON COLUMN bbm.batched_background_migrations.max_key IS 'The upper bound, inclusive; null until the migration is prepared.';
COMMENT ON COLUMN bbm.batched_background_migrations.frontier_key IS 'The key up to which the range has been cut into jobs; null before the first job.';
COMMENT ON COLUMN bbm.batched_background_migrations.remaining_predicate IS
    'Holds for rows which the pinned version of the work has still to change: then finished is proved. Null: the work does not say.';
COMMENT ON COLUMN bbm.batched_background_migrations.verified_at IS 'When a walk over the whole table had found no row that remains.';
COMMENT ON COLUMN bbm.batched_background_migrations.verified_rows IS 'How many rows that walk has looked at.';
COMMENT ON COLUMN bbm.batched_background_migrations.verified_statement IS 'By which statement, as its first piece was read.';
COMMENT ON COLUMN bbm.batched_background_migrations.sub_batch_size IS 'Null: chosen by the runner.';
COMMENT ON COLUMN bbm.batched_background_migrations.learned_sub_batch_size IS 'Where the runner starts when it chooses the size: what its last job arrived at.';
COMMENT ON COLUMN bbm.batched_background_migrations.asynchronous_commit IS 'Whether the commits of sub-batches may return before they are on disk; data and progress are lost together, or not at all.';
COMMENT ON COLUMN bbm.batched_background_migrations.on_row_error IS 'What happens to a row that fails alone on its data: it fails the attempt, or is left out.';
COMMENT ON COLUMN bbm.batched_background_migrations.quarantine_limit IS 'How many rows may be left out; the next one fails the attempt.';
COMMENT ON COLUMN bbm.batched_background_migrations.quarantined_rows IS 'How many rows are left out now.';
COMMENT ON COLUMN bbm.batched_background_migrations.total_tuple_count IS 'Estimate of the rows in the table, taken when the migration was prepared.';

-- Two migrations never hold one table.
CREATE UNIQUE INDEX batched_background_migrations_running_root_table_idx
    ON bbm.batched_background_migrations (root_table_oid) WHERE status = 'running';
-- What the poll looks through: finished history stays out of it.
CREATE INDEX batched_background_migrations_claimable_idx
    ON bbm.batched_background_migrations (last_claimed_at NULLS FIRST, id) WHERE status IN ('active', 'running');

-- +goose Down
DROP TABLE bbm.batched_background_migrations;
DROP TYPE bbm.row_error_policy;
DROP TYPE bbm.migration_failure_code;
DROP TYPE bbm.migration_status;
