"""The census: how many rows LiteLLM's own tables hold, which, and what they have spent.

What a migration may change (columns, their order) does not count; a row that is gone or a cent that differs does.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Table:
    """Rows, a digest of their primary keys whatever their order, and the exact sum of ``spend`` where there is one."""

    rows: int
    keys: str
    spend: str | None


_TABLES = """
SELECT c.relname AS name,
    (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attname)
     FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
     WHERE i.indrelid = c.oid AND i.indisprimary) AS key,
    EXISTS (
        SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'spend' AND NOT a.attisdropped
    ) AS spends
FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname LIKE 'LiteLLM\\_%'
ORDER BY c.relname
"""


def take(connection: Connection) -> dict[str, Table]:
    """The census in the connection's transaction, by table; empty where the database is not LiteLLM's."""
    census = {}
    for table in connection.execute(text(_TABLES)).all():
        key = f"ROW({table.key})::text" if table.key else "t::text"
        spend = "coalesce(sum(spend::text::numeric), 0)::text" if table.spends else "NULL"
        row = connection.execute(
            text(
                f"SELECT count(*) AS rows, coalesce(sum(hashtextextended({key}, 0)), 0)::text AS keys, {spend} AS spend"  # noqa: S608
                f' FROM public."{table.name}" t'
            )
        ).one()
        census[table.name] = Table(row.rows, row.keys, row.spend)
    return census


def plain(census: Mapping[str, Table]) -> dict[str, Any]:
    """A census as plain data."""
    return {name: asdict(table) for name, table in census.items()}


def of_plain(data: Mapping[str, Any]) -> dict[str, Table]:
    """A census that was written as plain data."""
    return {name: Table(**table) for name, table in data.items()}


def differences(before: Mapping[str, Table], after: Mapping[str, Table]) -> list[str]:
    """What is not as it was, a sentence a table; tables that have come since do not count."""
    found = []
    for name, then in before.items():
        now = after.get(name)
        if now is None:
            if then.rows:
                found.append(f"{name}: {then.rows} rows, and the table is gone")
        elif now.rows != then.rows:
            found.append(f"{name}: {then.rows} rows have become {now.rows}")
        elif now.keys != then.keys:
            found.append(f"{name}: {then.rows} rows, but not the same ones")
        elif then.spend is not None and now.spend != then.spend:
            found.append(f"{name}: a spend of {then.spend} has become {now.spend}")
    return found


def changes(before: Mapping[str, Table], after: Mapping[str, Table]) -> dict[str, dict[str, str | int]]:
    """What has been added to the tables whose rows or spend are others than before."""
    found: dict[str, dict[str, str | int]] = {}
    for name, now in after.items():
        then = before.get(name, Table(0, "0", None if now.spend is None else "0"))
        if now != then:
            found[name] = {"rows": now.rows - then.rows}
            if now.spend is not None:
                found[name]["spend"] = f"{Decimal(now.spend) - Decimal(then.spend or 0):f}"
    return found
