-- The statements that are missing until a role owns all of LiteLLM's objects in this database, and nobody else can use
-- them: its tables, views, sequences, types and functions, not those of the request log. No row: all is as it should be.
WITH objects AS (
    SELECT
        CASE relkind
            WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE'
        END AS kind,
        pg_class.oid::regclass::text AS name,
        relowner AS owner
    FROM pg_class
    WHERE relnamespace = 'public'::regnamespace
      AND relkind IN ('r', 'p', 'v', 'm', 'S')
      AND relname !~ '^((requests|responses)(_p[0-9]{8}|_default|_id_seq)?|request_log_version)$'
      -- A sequence that belongs to a column follows its table.
      AND NOT EXISTS (
          SELECT FROM pg_depend
          WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND relkind = 'S' AND deptype IN ('a', 'i')
      )

    UNION ALL
    SELECT 'TYPE', oid::regtype::text, typowner
    FROM pg_type
    WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd')

    UNION ALL
    SELECT 'ROUTINE', oid::regprocedure::text, proowner
    FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace
      AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e')
)
SELECT format('ALTER %%s %%s OWNER TO %%I', kind, name, %(role)s) AS statement
FROM objects
WHERE owner <> (SELECT oid FROM pg_roles WHERE rolname = %(role)s)
ORDER BY statement
