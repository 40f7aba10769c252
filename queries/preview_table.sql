-- name: PreviewTable :one
-- What matters for writing to a table: its kind, its size with all partitions, what room its pages keep. No row: there is none.
-- Called by: preview.Explain, preview.Sample.
-- Index: pg_class_relname_nsp_index, pg_constraint_conrelid_contypid_conname_index.
-- Locks: the table and its partitions, ACCESS SHARE, until the end of the statement.
WITH root AS (
    SELECT c.oid
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = @schema_name
      AND c.relname = @table_name
), part AS (
    SELECT r.oid
    FROM root AS r
    UNION
    SELECT t.relid
    FROM root AS r
    CROSS JOIN pg_partition_tree(r.oid) AS t
), leaf AS (
    SELECT l.oid, l.relpages, l.reltuples, l.reloptions
    FROM part AS p
    JOIN pg_catalog.pg_class AS l ON l.oid = p.oid
    WHERE l.relkind = 'r'
), size AS (
    SELECT
        coalesce(sum(pg_relation_size(p.oid) / current_setting('block_size')::bigint), 0)::bigint AS pages,
        coalesce(sum(
            pg_relation_size(p.oid) / current_setting('block_size')::double precision
            * CASE WHEN p.reltuples >= 0 AND p.relpages > 0 THEN p.reltuples / p.relpages ELSE 60 END
        ), 0)::bigint AS rows,
        -- The fullest counts: its pages have the least room.
        coalesce(max(coalesce((
            SELECT o.option_value::integer
            FROM pg_options_to_table(p.reloptions) AS o
            WHERE o.option_name = 'fillfactor'
        ), 100)), 100)::integer AS fillfactor
    FROM leaf AS p
)

SELECT
    c.oid AS table_oid,
    format('%I.%I', n.nspname, c.relname) AS name,
    c.relkind::text AS kind,
    (c.relpersistence = 'u')::boolean AS is_unlogged,
    c.relrowsecurity AS has_row_security,
    row_security_active(c.oid) AS is_row_security_active,
    s.pages,
    s.rows,
    s.fillfactor,
    ARRAY(
        SELECT k.conname::text
        FROM pg_catalog.pg_constraint AS k
        WHERE k.conrelid = c.oid
          AND k.contype = 'c'
          AND NOT k.convalidated
        ORDER BY k.conname
    )::text[] AS unproved_checks
FROM root AS r
JOIN pg_catalog.pg_class AS c ON c.oid = r.oid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
CROSS JOIN size AS s;

-- name: PreviewTableListIndexes :many
-- Every index that a write to the table has to keep up, with all columns that it depends on: keys, INCLUDE, expressions, predicate. Those of
-- partitions are listed where the table has no such index itself.
-- Called by: preview.Explain.
-- Index: pg_index_indrelid_index, pg_depend_depender_index, pg_inherits_relid_seqno_index.
-- Locks: the table and its partitions, ACCESS SHARE, until the end of the statement.
WITH part AS (
    SELECT @table_oid::oid AS oid
    UNION
    SELECT t.relid FROM pg_partition_tree(@table_oid) AS t
)

SELECT
    format('%I.%I', n.nspname, x.relname) AS name,
    pg_get_indexdef(i.indexrelid) AS definition,
    m.amname::text AS method,
    i.indisunique AS is_unique,
    (i.indisvalid AND i.indisready)::boolean AS is_valid,
    (i.indpred IS NOT NULL)::boolean AS is_partial,
    (i.indexprs IS NOT NULL)::boolean AS has_expressions,
    ARRAY(
        SELECT a.attname::text
        FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = i.indrelid
          AND a.attnum > 0
          AND (
              a.attnum = ANY (i.indkey)
              OR EXISTS (
                  SELECT
                  FROM pg_catalog.pg_depend AS d
                  WHERE d.classid = 'pg_catalog.pg_class'::regclass
                    AND d.objid = i.indexrelid
                    AND d.refclassid = 'pg_catalog.pg_class'::regclass
                    AND d.refobjid = i.indrelid
                    AND d.refobjsubid = a.attnum
              )
          )
        ORDER BY a.attnum
    )::text[] AS columns
FROM part AS p
JOIN pg_catalog.pg_index AS i ON i.indrelid = p.oid
JOIN pg_catalog.pg_class AS x ON x.oid = i.indexrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = x.relnamespace
JOIN pg_catalog.pg_am AS m ON m.oid = x.relam
WHERE i.indislive
  AND (i.indrelid = @table_oid OR NOT EXISTS (SELECT FROM pg_catalog.pg_inherits AS h WHERE h.inhrelid = i.indexrelid))
ORDER BY i.indisprimary DESC, x.relname, n.nspname;

-- name: PreviewTableListGenerated :many
-- Stored generated columns, each with a column that it is computed from. Older servers note what they need for the column, newer ones for its
-- default.
-- Called by: preview.Explain.
-- Index: pg_attribute_relid_attnum_index, pg_depend_depender_index.
-- Locks: nothing.
SELECT DISTINCT g.attname::text AS name, b.attname::text AS base
FROM pg_catalog.pg_attribute AS g
JOIN pg_catalog.pg_attrdef AS f ON f.adrelid = g.attrelid AND f.adnum = g.attnum
JOIN pg_catalog.pg_depend AS d
    ON d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.objid = f.oid
    OR d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = g.attrelid AND d.objsubid = g.attnum
JOIN pg_catalog.pg_attribute AS b ON b.attrelid = g.attrelid AND b.attnum = d.refobjsubid
WHERE g.attrelid = @table_oid
  AND g.attgenerated = 's'
  AND d.refclassid = 'pg_catalog.pg_class'::regclass
  AND d.refobjid = g.attrelid
  AND d.refobjsubid > 0
  AND d.refobjsubid <> g.attnum
ORDER BY g.attname::text, b.attname::text;

-- name: PreviewTableListTriggers :many
-- The triggers of a table and those that only partitions of it have; those that PostgreSQL makes for constraints are left out.
-- Called by: preview.Explain.
-- Index: pg_trigger_tgrelid_tgname_index.
-- Locks: the table and its partitions, ACCESS SHARE, until the end of the statement.
WITH part AS (
    SELECT @table_oid::oid AS oid
    UNION
    SELECT t.relid FROM pg_partition_tree(@table_oid) AS t
)

SELECT
    t.tgname::text AS name,
    format('%I.%I', n.nspname, c.relname) AS table_name,
    (c.oid = @table_oid)::boolean AS is_own,
    format('%I.%I', fn.nspname, p.proname) AS function_name,
    p.prosecdef AS is_security_definer,
    (t.tgtype & 1 <> 0)::boolean AS is_per_row,
    (t.tgtype & 2 <> 0)::boolean AS is_before,
    (t.tgtype & 4 <> 0)::boolean AS is_on_insert,
    (t.tgtype & 8 <> 0)::boolean AS is_on_delete,
    (t.tgtype & 16 <> 0)::boolean AS is_on_update,
    t.tgdeferrable AS is_deferrable,
    -- O fires in an ordinary session, A in every one; R in one that replays a replica, D in none.
    (t.tgenabled IN ('O', 'A'))::boolean AS is_enabled,
    ARRAY(
        SELECT a.attname::text
        FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = t.tgrelid
          AND a.attnum = ANY (t.tgattr)
        ORDER BY a.attnum
    )::text[] AS columns
FROM part AS r
JOIN pg_catalog.pg_trigger AS t ON t.tgrelid = r.oid
JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
JOIN pg_catalog.pg_namespace AS fn ON fn.oid = p.pronamespace
WHERE NOT t.tgisinternal
  AND (t.tgrelid = @table_oid OR t.tgparentid = 0)
ORDER BY is_own DESC, t.tgname, c.relname;

-- name: PreviewTableListForeignKeys :many
-- The foreign keys of a table and of its partitions, and those of other tables that lead to it, each once.
-- Called by: preview.Explain.
-- Index: pg_constraint_conrelid_contypid_conname_index, pg_index_indrelid_index; reads all constraints for those that lead here.
-- Locks: the table and its partitions, ACCESS SHARE, until the end of the statement.
WITH part AS MATERIALIZED (
    SELECT @table_oid::oid AS oid
    UNION
    SELECT t.relid FROM pg_partition_tree(@table_oid) AS t
)

SELECT
    k.conname::text AS name,
    (k.conrelid IN (SELECT p.oid FROM part AS p))::boolean AS is_outgoing,
    (k.confrelid IN (SELECT p.oid FROM part AS p))::boolean AS is_incoming,
    format('%I.%I', n.nspname, c.relname) AS table_name,
    format('%I.%I', fn.nspname, f.relname) AS referenced_table_name,
    ARRAY(
        SELECT a.attname::text
        FROM unnest(k.conkey) WITH ORDINALITY AS w (number, place)
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = w.number
        ORDER BY w.place
    )::text[] AS columns,
    ARRAY(
        SELECT a.attname::text
        FROM unnest(k.confkey) WITH ORDINALITY AS w (number, place)
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.confrelid AND a.attnum = w.number
        ORDER BY w.place
    )::text[] AS referenced_columns,
    k.confupdtype::text AS on_update,
    k.confdeltype::text AS on_delete,
    k.condeferred AS is_deferred,
    k.convalidated AS is_validated,
    EXISTS (
        SELECT
        FROM pg_catalog.pg_index AS i
        WHERE i.indrelid = k.conrelid
          AND i.indisvalid
          AND i.indpred IS NULL
          AND (string_to_array(i.indkey::text, ' ')::smallint[])[1:cardinality(k.conkey)] @> k.conkey
    ) AS is_indexed
FROM pg_catalog.pg_constraint AS k
JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class AS f ON f.oid = k.confrelid
JOIN pg_catalog.pg_namespace AS fn ON fn.oid = f.relnamespace
WHERE k.contype = 'f'
  AND k.conparentid = 0
  AND (k.conrelid IN (SELECT p.oid FROM part AS p) OR k.confrelid IN (SELECT p.oid FROM part AS p))
ORDER BY is_outgoing DESC, k.conname, c.relname;
