-- Contract: this file can be applied only when the rows are filled, and none was left out.
-- +goose Up
SELECT bbm.assert_finished('users_email_lower', strict => true);

ALTER TABLE app.users ALTER COLUMN email_lower SET NOT NULL;
CREATE UNIQUE INDEX users_email_lower_key ON app.users (email_lower);

-- +goose Down
DROP INDEX app.users_email_lower_key;
ALTER TABLE app.users ALTER COLUMN email_lower DROP NOT NULL;
