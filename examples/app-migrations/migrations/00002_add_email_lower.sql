-- Expand: the column comes empty, new rows and changes fill it from now on, and the rows that are there already are enqueued.
-- +goose Up
ALTER TABLE app.users ADD COLUMN email_lower text;

-- +goose StatementBegin
CREATE FUNCTION app.fill_email_lower() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.email_lower := lower(NEW.email);
    RETURN NEW;
END
$$;
-- +goose StatementEnd

CREATE TRIGGER fill_email_lower BEFORE INSERT OR UPDATE OF email ON app.users
FOR EACH ROW EXECUTE FUNCTION app.fill_email_lower();

-- Nothing runs yet: a runner that has works/users_email_lower.sql takes it up. An empty table is finished at once.
SELECT bbm.enqueue('users_email_lower', 'app.users');

-- No Down: what has been enqueued is forgotten with `bbm-runner delete`, or cancelled first.
