-- description: Fill email_lower for rows written before it existed.
-- table: public.users
-- cursor: id
-- search_path: public
-- batch_size: 50000
-- sub_batch_size: 1000
-- argument: domain text

-- +bbm Work
UPDATE public.users AS u
   SET email_lower = lower(u.email)
 WHERE @batch(u)
   AND u.email_lower IS NULL
   AND u.email LIKE '%@' || @domain;
