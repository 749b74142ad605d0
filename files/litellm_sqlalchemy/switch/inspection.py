"""What a LiteLLM database is, before it is touched: its migrations, its owners, its size, and who is connected."""

from dataclasses import dataclass, field

from sqlalchemy import Connection, text

from litellm_sqlalchemy import litellm_migrations as migrations


@dataclass(slots=True)
class Inspection:
    """The state of a database; sizes in bytes."""

    server_version: int
    encoding: str
    database_bytes: int
    tables: int
    owners: list[str] = field(default_factory=list)
    rows: int = 0
    """Rows of keys, users, teams and calls: none where nobody has used it yet."""
    spend_logs_bytes: int = 0
    pending: list[str] = field(default_factory=list)
    copied_from: str | None = None
    key_known: bool | None = None
    sessions: list[dict[str, str]] = field(default_factory=list)


_IN_USE = ("LiteLLM_VerificationToken", "LiteLLM_UserTable", "LiteLLM_TeamTable", "LiteLLM_SpendLogs")

_SESSIONS = """
SELECT usename AS role, coalesce(host(client_addr), 'this host') AS address, application_name AS application
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename <> current_user
  AND coalesce(backend_type, 'client backend') = 'client backend'
ORDER BY 1, 2, 3
"""

_OWNERS = r"""
SELECT DISTINCT pg_get_userbyid(relowner) AS owner FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND relname LIKE 'LiteLLM\_%' ORDER BY 1
"""


def inspect(connection: Connection, key_hash: str | None = None) -> Inspection:
    """Look at the connection's database; ValueError with what to do where a migration of LiteLLM stands in the way."""

    def one(query: str, **parameters: object) -> object:
        return connection.execute(text(query), parameters).scalar_one()

    found = Inspection(
        server_version=int(str(one("SHOW server_version_num"))) // 10_000,
        encoding=str(one("SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()")),
        database_bytes=int(str(one("SELECT pg_database_size(current_database())"))),
        tables=migrations.litellm_tables(connection),
    )
    if found.tables:
        found.pending = [migration.name for migration in migrations.history(connection).pending]
        found.owners = list(connection.execute(text(_OWNERS)).scalars())
        found.rows = sum(int(str(one(f'SELECT count(*) FROM "{table}"'))) for table in _IN_USE)  # noqa: S608
        found.spend_logs_bytes = int(str(one("""SELECT pg_total_relation_size('"LiteLLM_SpendLogs"')""")))
        note = one("SELECT obj_description('_prisma_migrations'::regclass, 'pg_class')")
        found.copied_from = None if note is None else str(note)
        if key_hash:
            known = 'SELECT EXISTS (SELECT FROM "LiteLLM_VerificationToken" WHERE token = :hash)'
            found.key_known = bool(one(known, hash=key_hash))
    found.sessions = [dict(row) for row in connection.execute(text(_SESSIONS)).mappings()]
    return found
