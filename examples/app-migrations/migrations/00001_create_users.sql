-- +goose Up
CREATE SCHEMA app;

CREATE TABLE app.users (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email text NOT NULL
);

-- +goose Down
DROP TABLE app.users;
DROP SCHEMA app;
