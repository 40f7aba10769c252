-- description: Delete the sessions that ended before a given time.
-- table: public.sessions
-- cursor: id
-- timezone: Europe/Berlin
-- sub_batch_size: 5000
-- argument: before timestamptz

-- +bbm Work
-- A time given without an offset is one of the time zone above.
DELETE FROM public.sessions AS s
 WHERE @batch(s)
   AND s.ended_at < @before;
