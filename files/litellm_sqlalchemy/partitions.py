"""Daily partitions of both tables: made ahead of time, a pair at a time, with the foreign keys leaf to leaf.

A foreign key to the partitioned parent costs two to three times the insert time and forbids dropping partitions, so
``responses_p20260923`` refers to ``requests_p20260923`` instead. The way back is deferred to the commit: a request
cannot be committed without its response, nor a response without its request.
"""

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone

from sqlalchemy import Connection, ForeignKeyConstraint, text

from litellm_sqlalchemy.models import REQUEST_TO_RESPONSE, RESPONSE_TO_REQUEST, Request, Response

LOCK_TIMEOUT_MS = 2000
"""Milliseconds that creating a partition waits for readers and writers before it gives up."""

TABLES = (Request.__tablename__, Response.__tablename__)

FOREIGN_KEYS = ((TABLES[1], RESPONSE_TO_REQUEST), (TABLES[0], REQUEST_TO_RESPONSE))
"""The tables whose partitions carry a key of the models, and the keys."""

ADVISORY_LOCK = 0x6C6974656C6C6D
"""Whoever changes the schema holds this; any constant that nobody else uses will do ("litellm" in ASCII)."""


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
        return f"FOR VALUES FROM ('{self.start}') TO ('{self.end}')"

    def starts_before(self, day: date) -> bool:
        """Whether it is of an earlier day; the default never is."""
        return self.day is not None and self.day < day

    @property
    def start(self) -> datetime:
        """Its first moment."""
        assert self.day is not None
        return datetime(self.day.year, self.day.month, self.day.day, tzinfo=timezone.utc)

    @property
    def end(self) -> datetime:
        """The first moment after it."""
        return self.start + timedelta(days=1)

    @property
    def condition(self) -> str:
        """What holds for the rows of its day."""
        return f"created_at >= '{self.start}' AND created_at < '{self.end}'"

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


def days(connection: Connection) -> set[date]:
    """The days that have partitions."""
    parent = re.escape(TABLES[0])
    found = (re.fullmatch(parent + r"_p(\d{8})", name) for name in existing(connection))
    return {datetime.strptime(match[1], "%Y%m%d").replace(tzinfo=timezone.utc).date() for match in found if match}


def wanted(days_ahead: int, today: date | None = None) -> list[Partition]:
    """Yesterday (for clocks that differ), today and the days ahead, and the default."""
    start = today or datetime.now(timezone.utc).date()
    return [Partition(None)] + [Partition(start + timedelta(days=n)) for n in range(-1, days_ahead + 1)]


def missing(connection: Connection, days_ahead: int) -> list[Partition]:
    """The wanted pairs of which a table or a foreign key does not exist."""
    tables, keys = existing(connection), _foreign_keys(connection)
    return [
        pair
        for pair in wanted(days_ahead)
        if not all(pair.table(parent) in tables for parent in TABLES)
        or not all(_key_name(pair, child, key) in keys for child, key in FOREIGN_KEYS)
    ]


def ensure(connection: Connection, days_ahead: int) -> list[str]:
    """Create the pairs that are missing, in the caller's transaction; returns the names of the days or 'default'."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
    pairs = missing(connection, days_ahead)
    for pair in pairs:
        create(connection, pair)
    return [pair.suffix for pair in pairs]


def create(connection: Connection, pair: Partition) -> None:
    """Create what is missing of a pair, in the caller's transaction; rows that wait in the default are moved in."""
    connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"))
    tables, keys = existing(connection), _foreign_keys(connection)
    absent = [parent for parent in TABLES if pair.table(parent) not in tables]
    if pair.day is not None and Partition(None).table(TABLES[0]) in tables and _default_holds(connection, pair):
        _carve_out(connection, pair, absent)
    else:
        for parent in absent:
            connection.execute(text(f"CREATE TABLE {pair.table(parent)} PARTITION OF {parent} {pair.bounds}"))
    for child, key in FOREIGN_KEYS:
        if _key_name(pair, child, key) not in keys:
            connection.execute(text(_add_foreign_key(pair, child, key)))


def _default_holds(connection: Connection, pair: Partition) -> bool:
    tables = (Partition(None).table(parent) for parent in TABLES)
    query = " UNION ALL ".join(f"SELECT 1 FROM {table} WHERE {pair.condition}" for table in tables)  # noqa: S608
    return bool(connection.execute(text(f"SELECT EXISTS ({query})")).scalar_one())


def _carve_out(connection: Connection, pair: Partition, absent: list[str]) -> None:
    """Make partitions of rows that the default holds: PostgreSQL refuses a partition while it does."""
    # Nobody may add to the default while its rows are moved.
    defaults = ", ".join(Partition(None).table(parent) for parent in TABLES)
    connection.execute(text(f"LOCK TABLE {defaults} IN SHARE ROW EXCLUSIVE MODE"))
    # Responses first: a request takes its response with it when it is deleted.
    for parent in reversed(absent):
        table, default = pair.table(parent), Partition(None).table(parent)
        connection.execute(text(f"CREATE TABLE {table} (LIKE {parent} INCLUDING DEFAULTS INCLUDING COMMENTS)"))
        connection.execute(text(f"INSERT INTO {table} SELECT * FROM {default} WHERE {pair.condition}"))  # noqa: S608
        connection.execute(text(f"DELETE FROM {default} WHERE {pair.condition}"))  # noqa: S608
    # The rows that are still referred to are gone by now: let PostgreSQL see that before the tables change.
    connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
    for parent in absent:
        connection.execute(text(f"ALTER TABLE {parent} ATTACH PARTITION {pair.table(parent)} {pair.bounds}"))


def _foreign_keys(connection: Connection) -> set[str]:
    """The names of the foreign keys between partitions."""
    rows = connection.execute(
        text("SELECT conname FROM pg_constraint WHERE contype = 'f' AND connamespace = current_schema()::regnamespace")
    )
    return {row.conname for row in rows}


@dataclass(frozen=True, slots=True)
class State:
    """How the tables are partitioned: full days after today that have a partition, and whether the default is used."""

    days_ahead: int
    default_used: bool


def state(connection: Connection) -> State:
    """The state at this moment."""
    there = days(connection)
    today = datetime.now(timezone.utc).date()
    ahead = 0
    while today + timedelta(days=ahead + 1) in there:
        ahead += 1
    default = Partition(None).table(TABLES[0])
    used = connection.execute(text(f"SELECT EXISTS (SELECT 1 FROM {default})")).scalar_one()  # noqa: S608
    return State(ahead, bool(used))


def _key_name(pair: Partition, child: str, key: ForeignKeyConstraint) -> str:
    return f"fk_{pair.table(child)}_{_referred(key)}"


def _referred(key: ForeignKeyConstraint) -> str:
    """The parent that a key refers to."""
    return str(key.elements[0].target_fullname).split(".")[0]


def _add_foreign_key(pair: Partition, child: str, key: ForeignKeyConstraint) -> str:
    """ALTER TABLE that puts a key of the models on one pair of partitions."""
    columns = ", ".join(key.column_keys)
    referred_columns = ", ".join(element.target_fullname.split(".")[1] for element in key.elements)
    clauses = [
        f"ALTER TABLE {pair.table(child)} ADD CONSTRAINT {_key_name(pair, child, key)} FOREIGN KEY ({columns})",
        f"REFERENCES {pair.table(_referred(key))} ({referred_columns})",
    ]
    if key.ondelete:
        clauses.append(f"ON DELETE {key.ondelete}")
    if key.deferrable:
        clauses.append(f"DEFERRABLE INITIALLY {key.initially}")
    return " ".join(clauses)
