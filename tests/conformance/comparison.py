"""Runs examples on both clients and says where they differ."""

from __future__ import annotations

import pprint
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from call_sites.datamodel import Model
from conformance.catalogue import Cell, Example
from conformance.differences import KEPT
from conformance.sides import Side, Step
from conformance.world import Copy, masked

REFUSALS = {"DataError", "FieldNotFoundError", "InputError", "MissingRequiredValueError"}
REFUSED = {None, "P2009", "P2012", "P2013", "P2019"}
"""Errors of a query that is not understood. Which of them it is depends on the version and the protocol of Prisma."""


@dataclass(frozen=True)
class Difference:
    """Something that is not the same."""

    cell: Cell
    what: str
    steps: list[Step]
    prisma: Any
    ours: Any

    def __str__(self) -> str:
        shown = [f"{self.cell}: {self.what}", *(f"  {source(step)}" for step in self.steps)]
        for name, value in (("Prisma", self.prisma), ("ours", self.ours)):
            shown.append(f"  {name}: " + pprint.pformat(value, width=140, compact=True)[:1500].replace("\n", "\n    "))
        return "\n".join(shown)


def source(step: Step) -> str:
    """A step as a program would write it."""
    kind = next((one for one in ("tx", "batch", "together") if one in step), None)
    if kind:
        more = {key: value for key, value in step.items() if key != kind}
        return f"{kind}{more or ''}:\n    " + "\n    ".join(source(one) for one in step[kind])
    if "raw" in step:
        return f"await db.{step['raw'][0]}({', '.join(map(repr, step['raw'][1:]))})"
    if "sleep" in step:
        return f"sleep {step['sleep']}"
    accessor, operation = step["call"]
    return (
        f"await db.{accessor}.{operation}({', '.join(f'{key}={value!r}' for key, value in step['arguments'].items())})"
    )


def same(one: Any, other: Any) -> bool:
    """Equality that tells booleans from numbers, and does not tell 1 from 1.0, nor NaN from NaN."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) or (one != one and other != other)  # noqa: PLR0124 - both are no number


def comparable(result: Any, since: datetime, *, ordered: bool) -> Any:
    """A result without what may differ: generated ids, moments, the wording of errors."""
    if "error" in result:
        error = result["error"]
        if error["class"] in REFUSALS and error["code"] in REFUSED:
            return {"error": "refused"}
        return {"error": {"class": error["class"], "code": error["code"]}}
    if "results" in result:
        return {"results": [comparable(one, since, ordered=ordered) for one in result["results"]]}
    value = masked(result["value"], since)
    if isinstance(value, list) and not ordered:
        value = sorted(value, key=repr)
    return {"value": value}


class Comparison:
    """Both clients, both databases."""

    def __init__(self, sides: tuple[Side, Side], copies: tuple[Copy, Copy], models: dict[str, Model]) -> None:
        self._sides = sides
        self._copies = copies
        self._models = models
        self.calls = 0
        self.kept: Counter[str] = Counter()

    def run(self, examples: list[tuple[Cell, Example]]) -> Iterator[Difference]:
        """Run examples on both; both databases are as before afterwards."""
        reading = [one for one in examples if not writes(one[1])]
        results = self.results([step for _, example in reading for step in example.steps])
        for cell, example in reading:
            pair = [[side.pop(0) for _ in example.steps] for side in results]
            yield from self._compared(cell, example, *pair)
        for cell, example in examples:
            if writes(example):
                before = sum(self.kept.values())
                differences = [*self._compared(cell, example, *self.results(example.steps)), *self._rows(cell, example)]
                if sum(self.kept.values()) == before:
                    yield from differences[:1]

    def results(self, steps: list[Step]) -> tuple[list[Any], list[Any]]:
        """The results of steps on either side."""
        self.calls += len(steps)
        for side in self._sides:
            side.ask(steps)
        return self._sides[0].answer(), self._sides[1].answer()

    def _compared(self, cell: Cell, example: Example, prisma: list[Any], ours: list[Any]) -> Iterator[Difference]:
        since = self._copies[0].since
        shown, found = (
            [comparable(one, since, ordered=example.ordered) for one in results] for results in (prisma, ours)
        )
        if not same(shown, found):
            for kept in KEPT:
                if kept.covers(cell, shown, found):
                    self.kept[kept.name] += 1
                    return
            yield Difference(cell, "the results differ", example.steps, brief(prisma), brief(ours))

    def _rows(self, cell: Cell, example: Example) -> Iterator[Difference]:
        """The tables that differ; both copies are put back."""
        names = self.near(cell.model)
        changed = set().union(*(copy.changed(names) for copy in self._copies))
        if changed:
            prisma, ours = (copy.read(changed) for copy in self._copies)
            for copy in self._copies:
                copy.restore(changed)
            for name in sorted(changed):
                if not same(prisma[name], ours[name]):
                    only = [
                        [row for row in one[name] if row not in other[name]]
                        for one, other in ((prisma, ours), (ours, prisma))
                    ]
                    yield Difference(cell, f"the rows left in {name} differ", example.steps, *only)
        if any("autoincrement" in field.attributes for name in names for field in self._models[name].scalars):
            for copy in self._copies:
                copy.reset_sequences()

    def near(self, name: str) -> set[str]:
        """The tables that an operation on a model may reach: two relations far."""
        found = {name}
        for _ in range(2):
            found |= {relation.type for one in found for relation in self._models[one].relations}
        return found


def brief(results: list[Any]) -> list[Any]:
    """Results without the long lists that explain an error."""
    shown: list[Any] = []
    for one in results:
        if "error" in one:
            shown.append({"error": {key: one["error"][key] for key in ("class", "code", "message")}})
        else:
            shown.append(brief(one["results"]) if "results" in one else one["value"])
    return shown


READS = {"find_unique", "find_unique_or_raise", "find_first", "find_first_or_raise", "find_many", "count", "group_by"}


def writes(example: Example) -> bool:
    """Whether an example may change rows."""
    return not all("call" in step and step["call"][1] in READS for step in example.steps)
