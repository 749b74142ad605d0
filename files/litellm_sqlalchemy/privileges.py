"""What the service's role may do with each table: granted by the owner, whenever the schema has been looked after.

The request log is only ever added to. LiteLLM changes and removes rows of its own tables, whose names begin with
``LiteLLM_``. Everything else, the records of both kinds of migrations above all, is for reading.
"""

from sqlalchemy import Connection, text

from litellm_sqlalchemy.partitions import TABLES

_STATEMENTS = text(r"""
WITH wanted AS (
    SELECT
        CASE WHEN relkind = 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || oid::regclass::text AS object,
        coalesce(relacl, acldefault(CASE WHEN relkind = 'S' THEN 's' ELSE 'r' END::"char", relowner)) AS acl,
        CASE
            WHEN relkind = 'S' THEN ARRAY['USAGE', 'SELECT']
            WHEN relkind IN ('r', 'p') AND relname LIKE 'LiteLLM\_%' THEN ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']
            WHEN relname = ANY(:request_log) THEN ARRAY['SELECT', 'INSERT']
            ELSE ARRAY['SELECT']
        END AS privileges
    FROM pg_class
    WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S')
), compared AS (
    SELECT
        object,
        ARRAY(SELECT unnest(privileges) EXCEPT SELECT unnest(granted) ORDER BY 1) AS missing,
        ARRAY(SELECT unnest(granted) EXCEPT SELECT unnest(privileges) ORDER BY 1) AS excess
    FROM wanted
    CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(privilege_type), '{}') AS granted
        FROM aclexplode(acl) AS entry
        WHERE entry.grantee = to_regrole(quote_ident(:role))
    ) AS entries
)
SELECT format('GRANT %s ON %s TO %I', array_to_string(missing, ', '), object, :role)
FROM compared
WHERE missing <> '{}'
UNION ALL
SELECT format('REVOKE %s ON %s FROM %I', array_to_string(excess, ', '), object, :role)
FROM compared
WHERE excess <> '{}'
ORDER BY 1
""")


def statements(connection: Connection, role: str) -> list[str]:
    """The GRANT and REVOKE statements that are missing; empty where all is as it should be."""
    parameters = {"role": role, "request_log": list(TABLES)}
    return list(connection.execute(_STATEMENTS, parameters).scalars())


def grant(connection: Connection, role: str) -> list[str]:
    """Carry them out, in the caller's transaction, and return them."""
    found = statements(connection, role)
    for statement in found:
        connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
    return found
