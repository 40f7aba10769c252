-- name: TargetFind :one
-- The first relation of that name in the schemas, in their order, whatever it is. No row: there is none.
-- Called by: work.Resolve.
-- Index: pg_class_relname_nsp_index, pg_class_oid_index, pg_inherits_parent_index.
-- Locks: the table and its partitions, ACCESS SHARE, until the end of the statement.
SELECT
    c.oid AS table_oid,
    coalesce(pg_partition_root(c.oid), c.oid)::oid AS root_table_oid,
    n.nspname::text AS schema_name,
    c.relname::text AS table_name,
    format('%I.%I', n.nspname, c.relname) AS name,
    c.relkind::text AS kind,
    (c.relpersistence = 't')::boolean AS is_temporary,
    (c.relkind = 'r' AND EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhparent = c.oid))::boolean AS has_children,
    has_schema_privilege(n.oid, 'USAGE') AS is_schema_usable,
    coalesce((
        SELECT format('%I.%I', fn.nspname, f.relname)
        FROM pg_catalog.pg_class AS f
        JOIN pg_catalog.pg_namespace AS fn ON fn.oid = f.relnamespace
        WHERE f.relkind = 'f'
          -- An array, since the planner expects 1,000 partitions and would read pg_class whole for them.
          AND f.oid = ANY (ARRAY(SELECT t.relid FROM pg_partition_tree(c.oid) AS t))
        ORDER BY f.oid
        LIMIT 1
    ), '')::text AS foreign_partition,
    coalesce((
        -- The density of the last ANALYZE at the present size, as the planner does; without one, rows of about 136 bytes: 60 a page.
        SELECT sum(
            pg_relation_size(l.oid) / current_setting('block_size')::double precision
            * CASE WHEN l.reltuples >= 0 AND l.relpages > 0 THEN l.reltuples / l.relpages ELSE 60 END
        )
        FROM pg_catalog.pg_class AS l
        WHERE l.relkind = 'r'
          AND l.oid = ANY (ARRAY(SELECT c.oid UNION SELECT t.relid FROM pg_partition_tree(c.oid) AS t WHERE t.isleaf))
    ), 0)::bigint AS estimated_rows
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relname = @table_name::text
  AND n.nspname = ANY (@schema_names::text[])
ORDER BY array_position(@schema_names::text[], n.nspname::text)
LIMIT 1;

-- name: TargetStands :one
-- Whether the name stands for that table still. Asked behind statements about it, whose locks keep the name where it is until the end of the transaction.
-- Called by: work.CheckStands.
-- Index: none.
-- Locks: nothing.
SELECT coalesce(to_regclass(@table_name::text)::oid = @table_oid::oid, false)::boolean AS stands;

-- name: TargetListColumns :many
-- The columns of a table, in their order. Since PostgreSQL 18 a NOT NULL may be there without having been proved for old rows.
-- Called by: work.Resolve.
-- Index: pg_attribute_relid_attnum_index, pg_collation_oid_index, pg_constraint_conrelid_contypid_conname_index.
-- Locks: nothing.
SELECT
    a.attname::text AS name,
    format_type(a.atttypid, NULL) AS type,
    coalesce((
        SELECT format('%s.%I', l.collnamespace::regnamespace, l.collname)
        FROM pg_catalog.pg_collation AS l
        WHERE l.oid = a.attcollation
    ), '')::text AS collation_name,
    (a.attnotnull AND NOT EXISTS (
        SELECT
        FROM pg_catalog.pg_constraint AS r
        WHERE r.conrelid = a.attrelid
          AND r.contype = 'n'
          AND r.conkey[1] = a.attnum
          AND NOT r.convalidated
    ))::boolean AS is_not_null
FROM pg_catalog.pg_attribute AS a
WHERE a.attrelid = @table_oid
  AND a.attnum > 0
  AND NOT a.attisdropped
ORDER BY a.attnum;

-- name: TargetListIndexes :many
-- The indexes of a table with all that decides whether one can serve a cursor; an expression is an empty column name.
-- Called by: work.Resolve.
-- Index: pg_index_indrelid_index.
-- Locks: nothing.
SELECT
    c.relname::text AS name,
    m.amname::text AS method,
    i.indisunique AS is_unique,
    i.indisprimary AS is_primary,
    (i.indisvalid AND i.indisready AND i.indislive)::boolean AS is_valid,
    (i.indpred IS NOT NULL)::boolean AS is_partial,
    k.columns,
    k.has_default_classes,
    k.has_column_collations,
    k.has_one_direction
FROM pg_catalog.pg_index AS i
JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_am AS m ON m.oid = c.relam
CROSS JOIN LATERAL (
    SELECT
        array_agg(coalesce(a.attname, '')::text ORDER BY p.position)::text[] AS columns,
        -- varchar has no operator class of its own: it goes by that of text.
        coalesce(
            bool_and(o.opcdefault AND o.opcintype = CASE a.atttypid WHEN 1043 THEN 25 ELSE a.atttypid END), false
        )::boolean AS has_default_classes,
        coalesce(bool_and(i.indcollation[p.position] = a.attcollation), false)::boolean AS has_column_collations,
        -- 0 is ASC NULLS LAST, 3 is DESC NULLS FIRST: what an ORDER BY without options can use, forwards or backwards.
        (bool_and(i.indoption[p.position] = 0) OR bool_and(i.indoption[p.position] = 3))::boolean AS has_one_direction
    FROM generate_series(0, i.indnkeyatts - 1) AS p (position)
    JOIN pg_catalog.pg_opclass AS o ON o.oid = i.indclass[p.position]
    LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[p.position]
) AS k
WHERE i.indrelid = @table_oid
ORDER BY i.indisprimary DESC, c.relname;

-- name: TargetListParts :many
-- The names by which a plan can call a table: its own and those of its partitions.
-- Called by: work.CheckWork.
-- Index: pg_class_oid_index.
-- Locks: the table and its partitions, ACCESS SHARE, until the end of the statement.
SELECT n.nspname::text AS schema_name, c.relname::text AS table_name
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = ANY (ARRAY(SELECT @table_oid::oid UNION SELECT t.relid FROM pg_partition_tree(@table_oid) AS t));

-- name: CheckSettingsSet :exec
-- Makes this transaction plan as a work asks to, on a small table as it would on a large one.
-- Called by: work.CheckWork.
-- Index: none.
-- Locks: nothing.
SELECT
    set_config('search_path', @search_path::text, true),
    set_config('TimeZone', @time_zone::text, true),
    set_config('enable_seqscan', 'off', true);

-- name: PlanTable :one
-- A table that a plan reads: the topmost one that it is a partition of, and how many rows it has now, or how many the index has by which it is read. No row: there is none.
-- Called by: work.FindReads.
-- Index: pg_namespace_nspname_index, pg_class_relname_nsp_index, pg_class_oid_index.
-- Locks: the table, ACCESS SHARE, until the end of the statement.
SELECT
    r.oid AS root_oid,
    format('%I.%I', rn.nspname, r.relname) AS root_name,
    -- The density of the last ANALYZE at the present size, as the planner does; without one, rows of about 136 bytes: 60 a page.
    least(
        pg_relation_size(c.oid) / current_setting('block_size')::double precision
        * CASE WHEN c.reltuples >= 0 AND c.relpages > 0 THEN c.reltuples / c.relpages ELSE 60 END,
        (SELECT nullif(x.reltuples, 0) FROM pg_catalog.pg_class AS x WHERE x.relname = @index_name AND x.relnamespace = n.oid AND x.reltuples >= 0)
    )::double precision AS rows
FROM pg_catalog.pg_namespace AS n
JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid
JOIN pg_catalog.pg_class AS r ON r.oid = coalesce(pg_partition_root(c.oid), c.oid)
JOIN pg_catalog.pg_namespace AS rn ON rn.oid = r.relnamespace
WHERE n.nspname = @schema_name
  AND c.relname = @table_name;
