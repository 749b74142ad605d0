"""The figures of AC-7: from the latencies of calls with and without logging to what logging adds."""

from __future__ import annotations

import random
import statistics
from typing import Any

BAR_MS = 5.0
"""AC-7: what logging may add to a call."""
OWN_BAR_MS = 0.2
"""What we want it to add at most, in the median."""
RESAMPLES = 2000

Raw = dict[str, Any]


def with_figures(report: Raw) -> Raw:
    """The raw latencies of both sides with what they come to."""
    if "error" in report:
        return report
    on, off = (report[side].pop("latencies_ms") for side in ("on", "off"))
    differences = [with_log - without for with_log, without in zip(on, off, strict=True)]
    low, high = confidence(differences)
    median = statistics.median(differences)
    return {
        "difference": {
            "median_ms": round(median, 4),
            "ci95_ms": [round(low, 4), round(high, 4)],
            "mean_ms": round(statistics.fmean(differences), 4),
            "cpu_ms_per_call": round(report["on"]["cpu_ms_per_call"] - report["off"]["cpu_ms_per_call"], 3),
        },
        "bar_ms": BAR_MS,
        "bar_met": high < BAR_MS,
        "own_bar_ms": OWN_BAR_MS,
        "own_bar_met": median <= OWN_BAR_MS,
        "logging_on": {**distribution(on), **report.pop("on")},
        "logging_off": {**distribution(off), **report.pop("off")},
        **report,
        "latencies_ms": {"logging_on": on, "logging_off": off},
    }


def distribution(latencies: list[float]) -> Raw:
    """Median and tail of a series."""
    cuts = statistics.quantiles(latencies, n=100, method="inclusive")
    return {
        "median_ms": round(statistics.median(latencies), 4),
        "p95_ms": round(cuts[94], 4),
        "p99_ms": round(cuts[98], 4),
    }


def confidence(values: list[float]) -> tuple[float, float]:
    """The 95 % confidence interval of the median, by the bootstrap; the same values give the same interval."""
    chance = random.Random(0)  # noqa: S311  resampling, no secret
    medians = sorted(statistics.median(chance.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return medians[round(RESAMPLES * 0.025)], medians[round(RESAMPLES * 0.975) - 1]
