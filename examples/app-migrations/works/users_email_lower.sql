-- description: Fill email_lower for users that were there before the column.
-- table: app.users
-- cursor: id

-- +bbm Work
UPDATE app.users AS u
   SET email_lower = lower(u.email)
 WHERE @batch(u)
   AND u.email_lower IS NULL;
