-- The statements that are missing until a role may connect to this database and make tables in it, or may not.
WITH wanted AS (
    SELECT
        'DATABASE ' || quote_ident(current_database()) AS object, 'CONNECT' AS privilege,
        (SELECT coalesce(datacl, acldefault('d', datdba)) FROM pg_database WHERE datname = current_database()) AS acl
    UNION ALL
    SELECT
        'SCHEMA public', unnest(ARRAY['USAGE', 'CREATE']),
        (SELECT coalesce(nspacl, acldefault('n', nspowner)) FROM pg_namespace WHERE nspname = 'public')
), compared AS (
    SELECT
        object, privilege,
        EXISTS (
            SELECT FROM aclexplode(acl) AS entry
            WHERE entry.grantee = (SELECT oid FROM pg_roles WHERE rolname = %(role)s) AND entry.privilege_type = privilege
        ) AS granted
    FROM wanted
)
SELECT format(
    CASE WHEN %(allowed)s THEN 'GRANT %%s ON %%s TO %%I' ELSE 'REVOKE %%s ON %%s FROM %%I' END, privilege, object, %(role)s
) AS statement
FROM compared
WHERE granted <> %(allowed)s
ORDER BY statement
