"""Differences that are kept on purpose; docs/prisma-client.md has the same list in words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from conformance.catalogue import Cell


@dataclass(frozen=True)
class Kept:
    """A difference that is meant: Prisma refuses a query, and ours answers it."""

    name: str
    operations: frozenset[str]
    feature: str
    """What the feature's name must match."""
    reason: str
    prisma: str = "refused"
    """What Prisma says to it: that it is refused, or the class of its error."""

    def covers(self, cell: Cell, prisma: list[Any], ours: list[Any]) -> bool:
        """Whether it explains that the results of a cell differ."""
        return (
            cell.operation in self.operations
            and re.fullmatch(self.feature, cell.feature) is not None
            and any(self.prisma in {one.get("error"), _class(one)} for one in prisma)
            and not any("error" in one for one in ours)
        )


def _class(result: Any) -> str | None:
    error = result.get("error")
    return error["class"] if isinstance(error, dict) else None


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
        prisma="ValidationError",
    ),
)
