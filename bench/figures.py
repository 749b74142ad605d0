"""From measured values to rows of the table: differences and ratios with their spread, against a bar."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

RESAMPLES = 500
FEWEST_TO_CHOOSE_FROM = 8

Values = Sequence[float]
Group = tuple[Values, Values]
"""What was measured of the subject and of its baseline side by side."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % confidence interval, by the bootstrap."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure has to reach, and which figure that is."""

    limit: float
    side: Literal["at most", "at least"]
    of: Literal["value", "ratio"]

    def met_by(self, figure: float) -> bool:
        """Whether a figure reaches it; without rounding."""
        return figure <= self.limit if self.side == "at most" else figure >= self.limit


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table. The interval is of the figure that the bar is about, of the ratio where there is none."""

    name: str
    value: float | None
    unit: str
    baseline: float | None = None
    ratio: float | None = None
    bar: Bar | None = None
    interval: tuple[float, float] | None = None
    samples: int | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None where there is none, or nothing was measured."""
        figure = None if self.bar is None else self.value if self.bar.of == "value" else self.ratio
        return None if figure is None or self.bar is None else self.bar.met_by(figure)

    @property
    def is_open(self) -> bool:
        """Whether the bar lies within the interval: another run may come out on the other side."""
        return (
            self.bar is not None and self.interval is not None and self.interval[0] < self.bar.limit < self.interval[1]
        )

    def as_json(self) -> dict[str, Any]:
        """As build/bench.json has it."""
        return {
            "name": self.name,
            "value": rounded(self.value),
            "unit": self.unit,
            "baseline": rounded(self.baseline),
            "ratio": rounded(self.ratio),
            "bar": None if self.bar is None else self.bar.limit,
            "met": self.met,
            "bar_is": None if self.bar is None else f"{self.bar.of} {self.bar.side}",
            "ci95": None if self.interval is None else [rounded(end) for end in self.interval],
            "within_spread": self.is_open,
            "samples": self.samples,
            "note": self.note,
        }


def rounded(value: float | None) -> float | None:
    """Four digits that count; of large numbers all before the point."""
    return None if value is None else float(f"{value:.4g}") if abs(value) < 1000 else round(value)  # noqa: PLR2004


def percentile(values: Values, share: float) -> float:
    """The value below which that share of the values lies."""
    ordered = sorted(values)
    at = (len(ordered) - 1) * share
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def estimate(groups: Sequence[Group], statistic: Callable[[Sequence[Group]], float]) -> Estimate:
    """A statistic of groups, with the interval that drawing whole groups again and again gives.

    What was measured in one breath shares its disturbances, so it is drawn together. The same values always give the
    same interval.
    """
    chance = random.Random(0)  # noqa: S311  resampling, no secret
    drawn = sorted(statistic(chance.choices(groups, k=len(groups))) for _ in range(RESAMPLES))
    return Estimate(statistic(groups), percentile(drawn, 0.025), percentile(drawn, 0.975))


def together(pairs: Sequence[dict[str, Any]], size: int) -> list[dict[str, Any]]:
    """Consecutive groups of the load as groups of ``size`` of them; what is over at the end stays out."""
    chunks = [pairs[at : at + size] for at in range(0, len(pairs) - size + 1, size)]
    return [
        {side: {"latencies_ms": [x for one in chunk for x in one[side]["latencies_ms"]]} for side in ("on", "off")}
        | {what: sum(one[what] for one in chunk) for what in ("others_ms", "machine_ms")}
        for chunk in chunks
    ]


def quieter_half(groups: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The groups during which the rest of the machine did least, in their order; all where there are few."""
    if len(groups) < FEWEST_TO_CHOOSE_FROM:
        return list(groups)
    order = sorted(range(len(groups)), key=lambda at: groups[at]["others_ms"] / max(1.0, groups[at]["machine_ms"]))
    return [groups[at] for at in sorted(order[: (len(groups) + 1) // 2])]


def median_difference(groups: Sequence[Group]) -> float:
    """The median over all groups of what the group's median adds to that of the baseline next to it."""
    return statistics.median(statistics.median(on) - statistics.median(off) for on, off in groups)


def tail_difference(groups: Sequence[Group]) -> float:
    """What the 99th percentile of all values adds to that of all of the baseline's."""
    on, off = ([value for group in groups for value in group[side]] for side in (0, 1))
    return percentile(on, 0.99) - percentile(off, 0.99)


def median_ratio(groups: Sequence[Group]) -> float:
    """The median over all groups of the ratio of the means."""
    return statistics.median(statistics.fmean(on) / statistics.fmean(off) for on, off in groups)


def all_of(groups: Sequence[Group], side: int) -> list[float]:
    """The values of the subject (0) or of the baseline (1)."""
    return [value for group in groups for value in group[side]]


def added(  # noqa: PLR0917
    name: str, groups: Sequence[Group], unit: str, median_bar: float, tail_bar: float, note: str = ""
) -> list[Row]:
    """Two rows: what is added in the median, and at the 99th percentile."""
    samples = sum(len(on) for on, _ in groups)
    rows = []
    for what, statistic, share, limit in (
        ("median", median_difference, 0.5, median_bar),
        ("p99", tail_difference, 0.99, tail_bar),
    ):
        found = estimate(groups, statistic)
        on, off = (percentile(all_of(groups, side), share) for side in (0, 1))
        bar = Bar(limit, "at most", "value")
        rows.append(
            Row(f"{name}, {what}", found.value, unit, off, on / off, bar, (found.low, found.high), samples, note)
        )
    return rows


def rate(name: str, groups: Sequence[Group], unit: str, limit: float, note: str = "") -> Row:
    """A rate against its baseline's, round by round."""
    found = estimate(groups, median_ratio)
    on, off = (statistics.median(all_of(groups, side)) for side in (0, 1))
    bar = Bar(limit, "at least", "ratio")
    return Row(name, on, unit, off, found.value, bar, (found.low, found.high), len(groups), note)


def table(rows: Sequence[Row]) -> str:
    """The rows as a table in Markdown."""
    head = ("what", "value", "baseline", "ratio", "bar", "95 % interval", "met")
    cells = [head, tuple("---" for _ in head)]
    for row in rows:
        bar = "" if row.bar is None else f"{row.bar.of} {row.bar.side} {shown(row.bar.limit)}"
        interval = "" if row.interval is None else f"{shown(row.interval[0])} to {shown(row.interval[1])}"
        met = {True: "yes", False: "**no**", None: ""}[row.met] + (", within the spread" if row.is_open else "")
        value = f"{shown(row.value)} {row.unit}" if row.value is not None else "not measured"
        cells.append((row.name, value, shown(row.baseline), shown(row.ratio), bar, interval, met))
    widths = [max(len(cell[column]) for cell in cells) for column in range(len(head))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(cell, widths, strict=True)) + " |" for cell in cells]
    notes = [f"- {row.name}: {row.note}" for row in rows if row.note]
    return "\n".join([*lines, "", *notes]).rstrip() + "\n"


def shown(value: float | None) -> str:
    """A number for people."""
    short = rounded(value)
    return "" if short is None else f"{short:,.0f}" if abs(short) >= 1000 else f"{short:.4g}"  # noqa: PLR2004
