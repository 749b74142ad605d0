"""Parity: LiteLLM_SpendLogs against what the backfill made of it, by sums and row by row.

The sums come from the columns of both sides by SQL alone, to the last digit; the rows are made anew by the backfill's
own mapping and compared with those that are stored.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, text

from litellm_sqlalchemy.exchange import Document, decode, encode
from litellm_sqlalchemy.redaction import Redactor
from litellm_sqlalchemy.retention import STRIPPED_PAYLOAD
from litellm_sqlalchemy.switch.spend_logs import (
    COLUMNS,
    IN_RANGE,
    KEY,
    MARK,
    NOT_OF_OUR_GATEWAY,
    day_range,
    pair_of,
    rows_by_day,
)

EXAMPLES = 20
"""How many differing rows and sums a report names."""

FIGURES = ("calls", "prompt_tokens", "completion_tokens", "total_tokens", "cost")

SIDES = ("spend_logs", "request_log")

_EXPIRED: Document = json.loads(STRIPPED_PAYLOAD)

# Names that the request log cuts to what an index takes are compared by their beginning.
_NAME = "CASE WHEN octet_length({0}) > 1020 THEN left({0}, 250) ELSE coalesce({0}, '') END"

_SUMS = f"""
WITH spend_logs AS (
    SELECT {_NAME.format("s.model")} AS model, {_NAME.format("s.api_key")} AS key, count(*) AS calls,
        sum(s.prompt_tokens) AS prompt_tokens, sum(s.completion_tokens) AS completion_tokens,
        sum(s.total_tokens) AS total_tokens, sum(s.spend::text::numeric) AS cost
    FROM "LiteLLM_SpendLogs" s
    WHERE {IN_RANGE} AND {NOT_OF_OUR_GATEWAY}
    GROUP BY 1, 2
), request_log AS (
    SELECT {_NAME.format("p.response_model")} AS model, {_NAME.format("r.api_key")} AS key, count(*) AS calls,
        sum(p.prompt_tokens) AS prompt_tokens, sum(p.completion_tokens) AS completion_tokens,
        sum(p.total_tokens) AS total_tokens, sum(p.cost) AS cost
    FROM requests r JOIN responses p ON (p.request_id_fk, p.created_at) = (r.id, r.created_at)
    WHERE r.created_at >= :from AND r.created_at < :until AND p.created_at >= :from AND p.created_at < :until
      AND p.content ? '{MARK}'
    GROUP BY 1, 2
)
SELECT model, key,
    {", ".join(f"coalesce({side}.{name}, 0) AS {side}_{name}" for name in FIGURES for side in SIDES)}
FROM spend_logs FULL JOIN request_log USING (model, key)
ORDER BY 1, 2
"""  # noqa: S608

_ROWS = f"""
SELECT {COLUMNS}, {KEY} AS key FROM "LiteLLM_SpendLogs" s WHERE {IN_RANGE} AND {NOT_OF_OUR_GATEWAY}
ORDER BY ({KEY}) COLLATE "C"
"""  # noqa: S608

_STORED = f"""
SELECT r.created_at, r.request_id, r.route, r.model, r.payload, r.status_code, r.user_id, r.api_key, r.start_time,
    r.end_time, p.latency_ms, p.content, p.prompt_tokens, p.completion_tokens, p.total_tokens, p.cost, p.response_model
FROM requests r JOIN responses p ON (p.request_id_fk, p.created_at) = (r.id, r.created_at)
WHERE r.created_at >= :from AND r.created_at < :until AND p.created_at >= :from AND p.created_at < :until
  AND p.content ? '{MARK}'
ORDER BY r.request_id COLLATE "C"
"""  # noqa: S608


def _figures() -> dict[str, Decimal]:
    return dict.fromkeys(FIGURES, Decimal(0))


@dataclass(slots=True)
class Sums:
    """The same figures of both sides."""

    spend_logs: dict[str, Decimal] = field(default_factory=_figures)
    request_log: dict[str, Decimal] = field(default_factory=_figures)

    def add(self, row: RowMapping) -> None:
        """Add a row of the query of sums."""
        for name in FIGURES:
            self.spend_logs[name] += row[f"spend_logs_{name}"]
            self.request_log[name] += row[f"request_log_{name}"]

    @property
    def equal(self) -> bool:
        """Whether both sides have the same figures, to the last digit."""
        return self.spend_logs == self.request_log


@dataclass(slots=True)
class Parity:
    """A report. ``rows`` counts pairs of rows that were compared column by column."""

    days: dict[str, Sums] = field(default_factory=dict)
    models: dict[str, Sums] = field(default_factory=dict)
    keys: dict[str, Sums] = field(default_factory=dict)
    total: Sums = field(default_factory=Sums)
    cells: int = 0
    different_cells: list[Document] = field(default_factory=list)
    rows: int = 0
    missing: int = 0
    unexpected: int = 0
    different: int = 0
    bodies_expired: int = 0
    of_our_gateway: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not (self.different_cells or self.missing or self.unexpected or self.different)

    def note(self, sentence: str) -> None:
        """Keep one of the first differences."""
        if len(self.examples) < EXAMPLES:
            self.examples.append(sentence)


def compare(engine: Engine, *, since: date | None = None, until: date | None = None) -> Parity:
    """Compare the days from ``since`` until before ``until``; days before LiteLLM_SpendLogs' oldest row are left out.

    LiteLLM itself removes old rows of LiteLLM_SpendLogs where it is told to; the request log keeps them.
    """
    found = Parity()
    redactor = Redactor.of_environment()
    # Both sides as they were at one moment.
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        rows = rows_by_day(connection, since, until)
        for day in _days(min(rows), max(rows)) if rows else ():
            moment = day_range(day)
            if day == min(rows):
                moment["from"] = _oldest(connection, moment)
            compared = found.total.spend_logs["calls"]
            _compare_sums(connection, day, moment, found)
            found.of_our_gateway += rows.get(day, 0) - int(found.total.spend_logs["calls"] - compared)
            _compare_rows(connection, moment, redactor, found)
    return found


def _days(first: date, last: date) -> Iterator[date]:
    for n in range((last - first).days + 1):
        yield first + timedelta(days=n)


def _oldest(connection: Connection, moment: Mapping[str, datetime]) -> datetime:
    query = f"""SELECT min(s."startTime") AT TIME ZONE 'UTC' FROM "LiteLLM_SpendLogs" s WHERE {IN_RANGE}"""  # noqa: S608
    oldest: datetime = connection.execute(text(query), moment).scalar_one()
    return oldest


def _compare_sums(connection: Connection, day: date, moment: Mapping[str, datetime], found: Parity) -> None:
    for row in connection.execute(text(_SUMS), moment).mappings():
        cell = Sums()
        for sums in (
            cell,
            found.total,
            found.days.setdefault(day.isoformat(), Sums()),
            found.models.setdefault(row["model"], Sums()),
            found.keys.setdefault(row["key"], Sums()),
        ):
            sums.add(row)
        found.cells += 1
        if not cell.equal:
            where = {"day": day.isoformat(), "model": row["model"], "key": row["key"]}
            found.different_cells.append(where | {"spend_logs": cell.spend_logs, "request_log": cell.request_log})


def _compare_rows(connection: Connection, moment: Mapping[str, datetime], redactor: Redactor, found: Parity) -> None:
    """Walk both sides in the order of their keys."""
    wanted, stored = _stream(connection, _ROWS, moment), _stream(connection, _STORED, moment)
    left, right = next(wanted, None), next(stored, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left["key"].encode() < right["request_id"].encode()):
            assert left is not None
            found.missing += 1
            found.note(f"{left['request_id']}: is not in the request log")
            left = next(wanted, None)
        elif left is None or right["request_id"].encode() < left["key"].encode():
            found.unexpected += 1
            found.note(f"{right['content'][MARK]}: is not in LiteLLM_SpendLogs")
            right = next(stored, None)
        else:
            found.rows += 1
            if columns := _differing(left, right, redactor, found):
                found.different += 1
                found.note(f"{left['request_id']}: {', '.join(columns)} differ")
            left, right = next(wanted, None), next(stored, None)


def _stream(connection: Connection, query: str, parameters: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    result = connection.execute(
        text(query), parameters, execution_options={"stream_results": True, "max_row_buffer": 2_000}
    )
    rows: Iterator[Any] = iter(result.mappings())
    while portion := list(islice(rows, 2_000)):
        yield from portion


def _differing(row: Mapping[str, Any], stored: Mapping[str, Any], redactor: Redactor, found: Parity) -> list[str]:
    """The columns of the request log that are not what the row becomes."""
    request, response = pair_of(row, redactor)
    wanted = request | response
    if stored["payload"] == _EXPIRED:
        found.bodies_expired += 1
        wanted["payload"] = _EXPIRED
        wanted["content"].pop("response", None)
    return [name for name, value in wanted.items() if stored[name] != value and _jsonb(value) != stored[name]]


def _jsonb(value: Any) -> Any:
    """A value as it comes back from a JSONB column."""
    return decode(encode(value).replace(b"\\u0000", "\ufffd".encode())) if isinstance(value, dict) else value
