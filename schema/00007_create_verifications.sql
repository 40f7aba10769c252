-- +goose Up
CREATE TABLE bbm.batched_background_migration_verifications (
    batched_background_migration_id bigint NOT NULL,
    pass integer NOT NULL,
    passes_left integer NOT NULL,
    work_checksum text NOT NULL,
    awaited_transactions text[],
    statement text,
    until_key text[],
    progress_key text[],
    expected_rows bigint,
    walked_rows bigint NOT NULL DEFAULT 0,
    remaining_rows bigint NOT NULL DEFAULT 0,
    remaining_keys jsonb NOT NULL DEFAULT '[]',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    CONSTRAINT batched_background_migration_verifications_pkey PRIMARY KEY (batched_background_migration_id, pass),
    CONSTRAINT batched_background_migration_verifications_migration_fkey FOREIGN KEY (batched_background_migration_id)
        REFERENCES bbm.batched_background_migrations (id) ON DELETE CASCADE,
    CONSTRAINT batched_background_migration_verifications_pass_check CHECK (pass >= 1 AND passes_left >= 0),
    CONSTRAINT batched_background_migration_verifications_rows_check CHECK (remaining_rows BETWEEN 0 AND walked_rows)
);

COMMENT ON TABLE bbm.batched_background_migration_verifications IS
    'One walk over the whole table of a migration, after its last job, that looks for rows which its work has still to change.';
COMMENT ON COLUMN bbm.batched_background_migration_verifications.pass IS 'Counted from 1; the pass of the jobs that are cut where rows remain.';
COMMENT ON COLUMN bbm.batched_background_migration_verifications.passes_left IS 'How many passes may follow, that of this walk included; 0: rows that remain fail the migration.';
COMMENT ON COLUMN bbm.batched_background_migration_verifications.work_checksum IS 'The version of the work by which the walk judges.';
COMMENT ON COLUMN bbm.batched_background_migration_verifications.awaited_transactions IS
    'Transactions that were open when the walk was made; it begins when the last of them has ended, so that what they wrote is seen.';
COMMENT ON COLUMN bbm.batched_background_migration_verifications.until_key IS 'The last key of the table when the walk began; null before.';
COMMENT ON COLUMN bbm.batched_background_migration_verifications.progress_key IS 'The key up to which the walk has come.';
COMMENT ON COLUMN bbm.batched_background_migration_verifications.remaining_keys IS 'The first few keys of rows that remain, each an array of texts.';

-- +goose Down
DROP TABLE bbm.batched_background_migration_verifications;
