"""What the service may do once it is in: read and add to the request log, look after LiteLLM's rows, and nothing else.

Everything here is tried in a session of the service itself, over the network with its own credentials: a gateway that
has been taken over can do no more than this. What must fail is tried in a transaction that is rolled back, in case it
does not.
"""

from typing import Any

import pytest

DENIED = "42501"

FORBIDDEN = {
    "create-table": "CREATE TABLE intruder (id int)",
    "create-temporary-table": "CREATE TEMPORARY TABLE intruder (id int)",
    "create-view": "CREATE VIEW intruder AS SELECT 1",
    "create-function": "CREATE FUNCTION intruder() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "create-schema": "CREATE SCHEMA intruder",
    "create-role": "CREATE ROLE intruder",
    "create-extension": "CREATE EXTENSION dblink",
    "drop-table": "DROP TABLE responses, requests",
    "alter-table": "ALTER TABLE requests DROP COLUMN payload",
    "alter-sequence": "ALTER SEQUENCE requests_id_seq RESTART",
    "set-sequence": "SELECT setval('requests_id_seq', 1)",
    "truncate": "TRUNCATE responses, requests",
    "change-rows": "UPDATE responses SET cost = 0",
    "remove-rows": "DELETE FROM requests",
    "remove-rows-of-a-partition": "DELETE FROM requests_default",
    "change-the-records-of-migrations": "UPDATE _prisma_migrations SET finished_at = NULL",
    "add-a-record-of-a-migration": "INSERT INTO _prisma_migrations (id, checksum, migration_name) VALUES ('1', '', '')",
    "change-the-version": "UPDATE request_log_version SET version_num = '0'",
    "add-to-the-version": "INSERT INTO request_log_version VALUES ('0')",
    "add-to-a-partition": "INSERT INTO requests_default DEFAULT VALUES",
    "alter-litellms-table": 'ALTER TABLE "LiteLLM_VerificationToken" DISABLE TRIGGER ALL',
    "truncate-litellms-table": 'TRUNCATE "LiteLLM_SpendLogs"',
    "drop-litellms-view": 'DROP VIEW "MonthlyGlobalSpend"',
    "create-index": "CREATE INDEX intruder ON requests (id)",
    "create-rule": "CREATE RULE intruder AS ON INSERT TO requests DO INSTEAD NOTHING",
    "become-owner": "SET ROLE litellm_owner",
    "become-superuser": "SET ROLE postgres",
    "grant-itself-the-owner": "GRANT litellm_owner TO litellm_user",
    "make-itself-superuser": "ALTER ROLE litellm_user SUPERUSER",
    "read-verifiers": "SELECT rolpassword FROM pg_authid",
    "read-a-file": "SELECT pg_read_file('/etc/passwd')",
    "list-a-folder": "SELECT pg_ls_dir('/etc')",
    "copy-from-a-file": "COPY requests FROM '/etc/passwd'",
    "run-a-program": "COPY (SELECT 1) TO PROGRAM 'id'",
    "make-a-large-object-of-a-file": "SELECT lo_import('/etc/passwd')",
    "reload-the-server": "SELECT pg_reload_conf()",
    "switch-statement-logging-on": "SET log_min_error_statement = 'error'",
}

# These cannot run in a transaction, so what they make if they are allowed to is taken away again.
FORBIDDEN_ALONE = {
    "create-database": ("CREATE DATABASE intruder", "DROP DATABASE IF EXISTS intruder"),
    "change-the-server": ("ALTER SYSTEM SET log_statement = 'all'", "ALTER SYSTEM RESET log_statement"),
    "change-its-own-logging": (
        "ALTER ROLE litellm_user SET log_min_error_statement = 'error'",
        "ALTER ROLE litellm_user SET log_min_error_statement = 'panic'",
    ),
}


@pytest.mark.parametrize("statement", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_service_is_denied(as_service: Any, statement: str) -> None:
    (answer,) = as_service(f"BEGIN; {statement}; ROLLBACK")
    assert answer.get("sqlstate") == DENIED, answer


@pytest.mark.parametrize(("statement", "undo"), FORBIDDEN_ALONE.values(), ids=FORBIDDEN_ALONE.keys())
def test_service_is_denied_what_no_transaction_takes(as_service: Any, sql: Any, statement: str, undo: str) -> None:
    (answer,) = as_service(statement)
    if "sqlstate" not in answer:
        sql(undo)
    assert answer.get("sqlstate") == DENIED, answer


def test_service_reads_rows_and_draws_numbers(as_service: Any) -> None:
    """The other half: what it needs does work, in the partitions as well, whoever made them."""
    statements = [
        "SELECT count(*) FROM requests",
        "SELECT count(*) FROM responses",
        "SELECT nextval('requests_id_seq')",
    ]
    answers = as_service(*[f"BEGIN; {statement}; ROLLBACK" for statement in statements])
    assert [answer for answer in answers if "sqlstate" in answer] == []


def test_service_looks_after_the_rows_of_litellm(as_service: Any) -> None:
    statements = [
        "INSERT INTO \"LiteLLM_VerificationToken\" (token) VALUES ('t')",
        'UPDATE "LiteLLM_VerificationToken" SET spend = 0',
        'DELETE FROM "LiteLLM_SpendLogs"',
        'SELECT count(*) FROM "MonthlyGlobalSpend"',
        "SELECT nextval('\"LiteLLM_ModelTable_id_seq\"')",
        "SELECT count(*) FROM _prisma_migrations",
    ]
    answers = as_service(*[f"BEGIN; {statement}; ROLLBACK" for statement in statements])
    assert [answer for answer in answers if "sqlstate" in answer] == []


def test_service_has_its_privileges_on_every_table_and_no_more(sql: Any) -> None:
    """By the kinds of tables; partitions are made every day, and those of tomorrow are for reading as well."""
    rows = sql(
        "SELECT kind, string_agg(DISTINCT privileges, ';') FROM ("
        " SELECT CASE WHEN relname LIKE 'LiteLLM\\_%' AND relkind <> 'v' THEN 'LiteLLM'"
        "  WHEN relname IN ('requests', 'responses') THEN 'log' ELSE 'other' END AS kind, c.oid,"
        " string_agg(a.privilege_type, ' ' ORDER BY a.privilege_type) AS privileges"
        " FROM pg_class c LEFT JOIN aclexplode(c.relacl) a ON a.grantee = 'litellm_user'::regrole"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') GROUP BY 1, c.oid) AS tables"
        " GROUP BY kind ORDER BY kind"
    )
    assert rows == [["LiteLLM", "DELETE INSERT SELECT UPDATE"], ["log", "INSERT SELECT"], ["other", "SELECT"]]


def test_every_table_belongs_to_the_owner(sql: Any) -> None:
    assert sql(
        "SELECT DISTINCT relowner::regrole FROM pg_class"
        " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'S')"
    ) == [["litellm_owner"]]


def test_public_has_nothing(sql: Any) -> None:
    """PUBLIC is every role there will ever be."""
    assert sql(
        "SELECT count(*) FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) AS a"
        " WHERE a.grantee = 0 AND datallowconn"
    ) == [["0"]]
    assert sql(
        "SELECT count(*) FROM pg_namespace, aclexplode(nspacl) AS a WHERE nspname = 'public' AND a.grantee = 0"
    ) == [["0"]]


def test_roles_have_no_attributes_but_login(sql: Any) -> None:
    rows = sql(
        "SELECT rolname, rolcanlogin, rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls"
        " FROM pg_roles WHERE rolname LIKE 'litellm%' ORDER BY rolname"
    )
    assert rows == [["litellm_owner", "t", "f"], ["litellm_user", "t", "f"]]


def test_roles_are_members_of_nothing(sql: Any) -> None:
    """A membership is a privilege that no list of privileges shows."""
    assert sql(
        "SELECT count(*) FROM pg_auth_members"
        " WHERE member IN ('litellm_owner'::regrole, 'litellm_user'::regrole)"
        " OR roleid IN ('litellm_owner'::regrole, 'litellm_user'::regrole)"
    ) == [["0"]]


def test_nobody_else_can_log_in(sql: Any) -> None:
    assert sql("SELECT rolname FROM pg_roles WHERE rolcanlogin ORDER BY rolname") == [
        ["litellm_owner"],
        ["litellm_user"],
        ["postgres"],
    ]
