-- The statements that are missing until the service's role can do what it needs and nobody can do more: PostgreSQL
-- grants PUBLIC, which is every role, more by default. No row: all is as it should be.
WITH roles AS (
    SELECT
        (SELECT oid FROM pg_roles WHERE rolname = %(owner)s) AS owner,
        (SELECT oid FROM pg_roles WHERE rolname = %(user)s) AS service,
        0::oid AS public
), wanted AS (
    -- Databases: the service may connect to its own, PUBLIC to none of these.
    SELECT
        '' AS prefix,
        'DATABASE ' || quote_ident(datname) AS object,
        coalesce(datacl, acldefault('d', datdba)) AS acl,
        grantee,
        CASE WHEN grantee = service AND datname = current_database() THEN ARRAY['CONNECT'] ELSE '{}' END AS privileges
    FROM pg_database, roles, unnest(ARRAY[public, service]) AS grantee
    WHERE datname IN (current_database(), 'postgres', 'template1')

    UNION ALL
    -- The schema: the service may use it, PUBLIC may not.
    SELECT
        '',
        'SCHEMA ' || quote_ident(nspname),
        coalesce(nspacl, acldefault('n', nspowner)),
        grantee,
        CASE WHEN grantee = service THEN ARRAY['USAGE'] ELSE '{}' END
    FROM pg_namespace, roles, unnest(ARRAY[public, service]) AS grantee
    WHERE nspname = 'public'

    UNION ALL
    -- The tables and sequences that the owner will make: for reading, until db_init.py grants what each of them needs.
    SELECT
        format('ALTER DEFAULT PRIVILEGES FOR ROLE %%I IN SCHEMA public ', %(owner)s),
        CASE WHEN kind = 'S' THEN 'SEQUENCES' ELSE 'TABLES' END,
        defaclacl,
        service,
        CASE WHEN kind = 'S' THEN ARRAY['USAGE', 'SELECT'] ELSE ARRAY['SELECT'] END
    FROM roles
    CROSS JOIN unnest(ARRAY['r', 'S']::"char"[]) AS kind
    LEFT JOIN pg_default_acl
        ON defaclrole = owner AND defaclnamespace = 'public'::regnamespace AND defaclobjtype = kind
), compared AS (
    SELECT
        prefix,
        object,
        CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS grantee,
        ARRAY(SELECT unnest(privileges) EXCEPT SELECT unnest(granted) ORDER BY 1) AS missing,
        ARRAY(SELECT unnest(granted) EXCEPT SELECT unnest(privileges) ORDER BY 1) AS excess
    FROM wanted
    CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(privilege_type), '{}') AS granted
        FROM aclexplode(acl) AS entry
        WHERE entry.grantee = wanted.grantee
    ) AS entries
)
SELECT format('%%sGRANT %%s ON %%s TO %%s', prefix, array_to_string(missing, ', '), object, grantee) AS statement
FROM compared
WHERE missing <> '{}'
UNION ALL
SELECT format('%%sREVOKE %%s ON %%s FROM %%s', prefix, array_to_string(excess, ', '), object, grantee)
FROM compared
WHERE excess <> '{}'
UNION ALL
-- Both roles are members of nothing: a membership is a privilege that no list of privileges shows.
SELECT format('REVOKE %%I FROM %%I', pg_get_userbyid(roleid), pg_get_userbyid(member))
FROM pg_auth_members, roles
WHERE member IN (owner, service)
ORDER BY statement
