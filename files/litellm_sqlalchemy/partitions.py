"""Daily partitions of both tables: made ahead of time, a pair at a time, with the foreign keys leaf to leaf.

A foreign key to the partitioned parent costs two to three times the insert time and forbids dropping partitions, so
``responses_p20260923`` refers to ``requests_p20260923`` instead. The way back is deferred to the commit: a request
cannot be committed without its response, nor a response without its request.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone

from sqlalchemy import Connection, ForeignKeyConstraint, text

from litellm_sqlalchemy.models import REQUEST_TO_RESPONSE, RESPONSE_TO_REQUEST, Request, Response

LOCK_TIMEOUT_MS = 2000
"""Milliseconds that creating a partition waits for readers and writers before it gives up."""

TABLES = (Request.__tablename__, Response.__tablename__)


@dataclass(frozen=True, slots=True)
class Partition:
    """A pair of partitions: one UTC day of both tables, or the default for what no day covers (``day`` None)."""

    day: date | None

    @property
    def suffix(self) -> str:
        """What its tables' names end with."""
        return "default" if self.day is None else f"p{self.day:%Y%m%d}"

    @property
    def bounds(self) -> str:
        """The clause that follows PARTITION OF."""
        if self.day is None:
            return "DEFAULT"
        return f"FOR VALUES FROM ('{self.day} 00:00:00+00') TO ('{self.day + timedelta(days=1)} 00:00:00+00')"

    def table(self, parent: str) -> str:
        """The name of its part of the parent."""
        return f"{parent}_{self.suffix}"


def existing(connection: Connection) -> set[str]:
    """The names of all partitions of both tables."""
    rows = connection.execute(
        text(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
            "JOIN pg_class p ON p.oid = i.inhparent WHERE p.relname = ANY(:parents) "
            "AND p.relnamespace = current_schema()::regnamespace"
        ),
        {"parents": list(TABLES)},
    )
    return {row.relname for row in rows}


def wanted(days_ahead: int, today: date | None = None) -> list[Partition]:
    """Yesterday (for clocks that differ), today and the days ahead, and the default."""
    start = today or datetime.now(timezone.utc).date()
    return [Partition(None)] + [Partition(start + timedelta(days=n)) for n in range(-1, days_ahead + 1)]


def missing(connection: Connection, days_ahead: int) -> list[Partition]:
    """The wanted pairs that do not exist yet."""
    there = existing(connection)
    return [pair for pair in wanted(days_ahead) if pair.table(TABLES[0]) not in there]


def create(connection: Connection, pair: Partition) -> None:
    """Create both tables of a pair and the foreign keys between them, in the caller's transaction."""
    connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"))
    for parent in TABLES:
        connection.execute(text(f"CREATE TABLE {pair.table(parent)} PARTITION OF {parent} {pair.bounds}"))
    for child, constraint in ((TABLES[1], RESPONSE_TO_REQUEST), (TABLES[0], REQUEST_TO_RESPONSE)):
        connection.execute(text(_foreign_key(child, constraint, pair)))


def ensure(connection: Connection, days_ahead: int) -> list[str]:
    """Create the pairs that are missing, in the caller's transaction; returns the names of the days or 'default'."""
    pairs = missing(connection, days_ahead)
    for pair in pairs:
        create(connection, pair)
    return [pair.suffix for pair in pairs]


def _foreign_key(child: str, constraint: ForeignKeyConstraint, pair: Partition) -> str:
    """ALTER TABLE that puts the constraint of the models on one pair of partitions."""
    referred = constraint.elements[0].target_fullname.split(".")[0]
    columns = ", ".join(constraint.column_keys)
    referred_columns = ", ".join(element.target_fullname.split(".")[1] for element in constraint.elements)
    table = pair.table(child)
    clauses = [
        f"ALTER TABLE {table} ADD CONSTRAINT fk_{table}_{referred} FOREIGN KEY ({columns})",
        f"REFERENCES {pair.table(referred)} ({referred_columns})",
    ]
    if constraint.ondelete:
        clauses.append(f"ON DELETE {constraint.ondelete}")
    if constraint.deferrable:
        clauses.append(f"DEFERRABLE INITIALLY {constraint.initially}")
    return " ".join(clauses)
