"""What LiteLLM's own database costs: start, memory, and calls with a virtual key; rows of the table."""

from __future__ import annotations

import statistics

from bench.figures import Group, Row, all_of, estimate, median_difference, median_ratio, quieter_half
from bench.sections import PATIENCE, Bench

LONGEST_ROUND = 60.0
"""Seconds that starting both gateways once may take."""


def keys(bench: Bench) -> list[Row]:
    """A gateway with LiteLLM's database against one without; a virtual key against the master key."""
    if not bench.may_stop_services:
        bench.say("virtual keys: left out, since their spend would stay in the database of this inventory")
        return []
    rounds, seconds = bench.extent.start_rounds, bench.extent.key_seconds
    bench.say(f"start a gateway with LiteLLM's database and one without, {rounds} rounds")
    patience = PATIENCE + rounds * LONGEST_ROUND
    starts = bench.gateway.as_root("keys.py", "starts", f"--rounds={rounds}", patience=patience)
    bench.raw["starts with LiteLLM's database"] = starts
    rows = [
        compared("start of a gateway with LiteLLM's database, against one without", starts, "seconds", "s"),
        compared("memory of a worker with LiteLLM's database, against one without", starts, "memory", "MB"),
    ]
    bench.say(f"calls with a virtual key and with the master key in turn, for {seconds:.0f} s")
    found = bench.gateway.as_root("keys.py", "calls", f"--seconds={seconds}", patience=PATIENCE + seconds)
    bench.raw["calls with a virtual key"] = found
    quiet = quieter_half(found)
    count = len(quiet[0]["on"]["latencies_ms"])
    rates: list[Group] = [([count / group["on"]["seconds"]], [count / group["off"]["seconds"]]) for group in quiet]
    ratio = estimate(rates, median_ratio)
    on, off = (statistics.median(all_of(rates, side)) for side in (0, 1))
    name = "calls with a virtual key, against the master key, 2 KB"
    rows.append(Row(name, on, "calls/s", off, ratio.value, None, (ratio.low, ratio.high), len(quiet)))
    return rows


def compared(name: str, found: list[dict[str, dict[str, float]]], what: str, unit: str) -> Row:
    """A figure of both kinds of gateway, with the interval of what the database adds."""
    groups: list[Group] = [([one["on"][what]], [one["off"][what]]) for one in found]
    on, off = (statistics.median(all_of(groups, side)) for side in (0, 1))
    more = estimate(groups, median_difference)
    note = f"the database adds {more.value:.3g} {unit}, 95 % interval {more.low:.3g} to {more.high:.3g}"
    return Row(name, on, unit, off, on / off, None, None, len(groups), note)
