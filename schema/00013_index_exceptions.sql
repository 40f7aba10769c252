-- +goose Up

-- For whoever asks what went wrong of late: of a month's changes a few have an exception. Only those are in the index.
CREATE INDEX batched_background_migration_job_transition_logs_exception_idx
    ON bbm.batched_background_migration_job_transition_logs (created_at) WHERE exception_class IS NOT NULL;

-- +goose Down
DROP INDEX bbm.batched_background_migration_job_transition_logs_exception_idx;
