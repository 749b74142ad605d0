-- What the running server is, whether it has loaded its files as they are on the disk now, and which mistakes it would
-- find in pg_hba.conf and pg_ident.conf: the line, what is wrong with it, and the variable that it comes from, which
-- the nearest comment above the line names.
WITH lines AS (
    SELECT file, number, line
    FROM (VALUES
        ('pg_hba.conf', current_setting('hba_file')),
        ('pg_ident.conf', current_setting('ident_file'))
    ) AS files (file, path),
    LATERAL regexp_split_to_table(pg_read_file(path), E'\n') WITH ORDINALITY AS split (line, number)
), found AS (
    SELECT 'pg_hba.conf' AS file, line_number, error FROM pg_hba_file_rules
    WHERE error IS NOT NULL
      -- TLS is switched on by the very reload that loads the line.
      AND NOT (%(tls)s AND error LIKE 'hostssl record cannot match because SSL is disabled%%')
    UNION ALL
    SELECT 'pg_ident.conf', line_number, error FROM pg_ident_file_mappings WHERE error IS NOT NULL
), mistakes AS (
    SELECT
        found.file,
        found.error,
        lines.line,
        (
            SELECT substring(comments.line FROM 'postgresql_[a-z_]+')
            FROM lines AS comments
            WHERE comments.file = found.file
              AND comments.number < found.line_number
              AND comments.line ~ '^# .*postgresql_'
            ORDER BY comments.number DESC
            LIMIT 1
        ) AS variable
    FROM found
    JOIN lines ON lines.file = found.file AND lines.number = found.line_number
)
SELECT
    current_setting('data_checksums') AS data_checksums,
    pg_conf_load_time() < (
        SELECT max((pg_stat_file(path, %(only_planned)s)).modification)
        FROM unnest(
            string_to_array(%(files)s, ':') || ARRAY[current_setting('hba_file'), current_setting('ident_file')]
        ) AS path
    ) AS stale,
    ARRAY(SELECT name FROM pg_settings WHERE pending_restart ORDER BY name) AS pending,
    (SELECT coalesce(json_agg(mistakes), '[]') FROM mistakes) AS mistakes
