"""Differences that are kept on purpose; docs/prisma-client.md has the same list in words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from conformance.catalogue import Cell


@dataclass(frozen=True)
class Kept:
    """A difference that is meant, or known."""

    name: str
    operations: frozenset[str]
    feature: str
    """What the feature's name must match."""
    reason: str
    prisma: str = "refused"
    ours: str = "value"
    """The outcome on either side, see outcome(); ROWS where the results are the same and rows differ."""

    def covers(self, cell: Cell, prisma: str, ours: str) -> bool:
        """Whether it explains that the outcomes of a cell differ."""
        return (
            cell.operation in self.operations
            and re.fullmatch(self.feature, cell.feature) is not None
            and (self.prisma, self.ours) == (prisma, ours)
        )


ROWS = "rows"


def outcome(results: list[Any]) -> str:
    """What came of some steps: "value", "refused", or the class and the code of the first error."""
    for one in results:
        if "error" in one:
            error = one["error"]
            return error if isinstance(error, str) else f"{error['class']} {error['code']}"
    return "value"


KEPT = (
    Kept(
        "plain Json",
        frozenset({"create", "update", "update_many"}),
        r"Json\?? (of the wrong type|unknown operator)",
        "A Json field takes a plain dictionary or list, where prisma-client-py demands Json(…) around it.",
    ),
    Kept(
        "null for Json",
        frozenset({"create", "update", "update_many"}),
        r"Json\? null",
        "None makes a nullable Json field null; prisma-client-py has no way to say so, and refuses.",
    ),
    Kept(
        "filter by null Json",
        frozenset({"find_many"}),
        r"Json\? (equals|not) null",
        "A nullable Json field can be asked whether it is null; prisma-client-py has no way to say so, and refuses.",
    ),
    Kept(
        "count from a cursor of several fields",
        frozenset({"count"}),
        "cursor",
        "Rows are counted from a cursor whatever key it names; Prisma refuses a key of several fields.",
    ),
    Kept(
        "a foreign key that is the primary key",
        frozenset({"update"}),
        r"agent (create|connect_or_create)",
        "The record is returned with its new key; prisma-client-py fails on the empty answer that it gets.",
        prisma="ValidationError None",
    ),
    Kept(
        "the same row connected twice",
        frozenset({"create"}),
        r"\w+ connect several",
        "A row whose key holds the foreign key is connected once; that it is named again is told as a missing row.",
        prisma="value",
        ours="RecordNotFoundError P2025",
    ),
    Kept(
        "letting go of what must be connected: set",
        frozenset({"update"}),
        r"\w+ set",
        "PostgreSQL refuses it, with the code of an empty column, where Prisma names the relation.",
        prisma="DataError P2014",
        ours="DataError P2011",
    ),
    Kept(
        "deleting what must be connected",
        frozenset({"update"}),
        r"\w+ delete",
        "The reference is taken away first, which PostgreSQL refuses; Prisma deletes first, which it refuses as well.",
        prisma="ForeignKeyViolationError P2003",
        ours="DataError P2011",
    ),
    Kept(
        "letting go of what is not connected",
        frozenset({"update"}),
        r"\w+ disconnect",
        "Nothing is to be done, and nothing is done; Prisma refuses it by the relation.",
        prisma="DataError P2014",
    ),
    Kept(
        "when a row that is let go of was updated",
        frozenset({"update"}),
        r"\w+ (set|disconnect)",
        "A row that is written counts as updated; Prisma leaves the time alone when it writes a foreign key only.",
        prisma=ROWS,
        ours=ROWS,
    ),
)
