CREATE SCHEMA app;

CREATE TABLE app.users (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email text NOT NULL,
    email_digest bytea
);

INSERT INTO app.users (email)
SELECT format('User%s@Example.com', n)
FROM generate_series(1, 5000) AS n;
