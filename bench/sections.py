"""What is measured, section by section; every function returns rows of the table."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from bench.clients.comparison import clients
from bench.figures import (
    Bar,
    Group,
    Row,
    added,
    all_of,
    estimate,
    median_ratio,
    percentile,
    quieter_half,
    rate,
    rounded,
    together,
)
from bench.hosts import Database, Gateway

SCHEMA = "litellm_bench"
FULL_SCHEMA = "litellm_bench_full"

MEDIAN_BAR_MS = 0.2
TAIL_BAR_MS = 1.0
THROUGHPUT_BAR = 0.97
COPY_BAR = 0.6
ORM_BAR = 10.0
INSERT_BAR = 0.9
EXPIRE_BAR = 100.0
SIZE_BAR = 1.0
WORKER_BAR_MB = 15.0
SHIPPER_BAR_MB = 120.0

CLIENTS = 16
PAIRS_DRAWN_TOGETHER = 10
"""Neighbouring pairs of single calls that count as one observation: what disturbs one disturbs the next."""
LATE_MODELS = ",".join(f"bench-{delay}" for delay in (200, 250, 300, 350, 400, 450, 500, 550))
RETAINED_DAYS = 20
RETAINED_PAIRS = 10_000
"""The days that retention drops, so many days ago, and what they hold."""
FREE_GB = 12.0
"""Room on the database's disk that is left alone."""
MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured; seconds are those of one measurement."""

    single_seconds: dict[int, float]
    late_seconds: dict[int, float]
    throughput_seconds: dict[int, float]
    outage_seconds: float
    drain_rounds: int
    drain_pairs: dict[int, int]
    insert_rounds: int
    insert_pairs: int
    fill_days: int
    fill_pairs: int
    fill_seconds: float
    retention_rounds: int
    retention_seconds: float
    size_pairs: dict[int, int]
    backlogs: tuple[tuple[int, int], ...]
    client_rounds: int
    client_calls: int
    start_rounds: int
    key_seconds: float


FULL = Extent(
    single_seconds={2: 24, 10: 24, 100: 24},
    late_seconds={2: 30, 10: 24, 100: 24},
    throughput_seconds={2: 40, 10: 24, 100: 24},
    outage_seconds=60,
    drain_rounds=9,
    drain_pairs={2: 3000, 20: 1000},
    insert_rounds=13,
    insert_pairs=2000,
    fill_days=10,
    fill_pairs=1_000_000,
    fill_seconds=1200,
    retention_rounds=3,
    retention_seconds=20,
    size_pairs={2: 4000, 20: 2000},
    backlogs=((20_000, 2048), (100, 5_000_000)),
    client_rounds=7,
    client_calls=500,
    start_rounds=7,
    key_seconds=40,
)
QUICK = Extent(
    single_seconds={2: 6, 100: 4},
    late_seconds={2: 8},
    throughput_seconds={2: 10},
    outage_seconds=20,
    drain_rounds=3,
    drain_pairs={2: 1000, 20: 300},
    insert_rounds=4,
    insert_pairs=1000,
    fill_days=3,
    fill_pairs=50_000,
    fill_seconds=60,
    retention_rounds=1,
    retention_seconds=20,
    size_pairs={2: 1000, 20: 500},
    backlogs=((3000, 2048), (12, 5_000_000)),
    client_rounds=3,
    client_calls=200,
    start_rounds=2,
    key_seconds=10,
)


@dataclass(slots=True)
class Bench:
    """The hosts, how much is measured, and what was found besides the rows."""

    gateway: Gateway
    database: Database
    extent: Extent
    say: Callable[[str], None]
    may_stop_services: bool
    gone: str | None = None
    """The name of a host that is gone: nothing may be sent any more."""
    sides: dict[str, str] = field(default_factory=dict)
    shipper: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)
    memory: list[dict[str, dict[str, float]]] = field(default_factory=list)

    def start_gateways(self) -> None:
        """Start both gateways and the shipper, once; both answer some calls before anything counts."""
        if not self.sides:
            self.say("start two gateways, one that logs and one that does not")
            started = self.gateway.as_root("gateways.py", "start")
            self.shipper = [started.pop("shipper")]
            self.sides = started
            self.load("warm-up", size_kb=2, clients=4, calls=80, groups=1, seconds=30, models="bench")

    def load(
        self, name: str, *, size_kb: int, clients: int, calls: int, groups: int, seconds: float, models: str
    ) -> list[dict[str, Any]]:
        """Call both in turn; see probes/load.py."""
        found: list[dict[str, Any]] = self.gateway.as_root(
            "load.py",
            *(f"--{side}={where}" for side, where in self.sides.items()),
            *(f"--size={size_kb * 1024}", f"--clients={clients}", f"--calls={calls}", f"--groups={groups}"),
            *(f"--seconds={seconds}", f"--models={models}", "--shipper", *self.shipper),
            patience=seconds + PATIENCE,
        )
        self.raw[name] = found
        return found


PATIENCE = 90.0


def latencies(found: list[dict[str, Any]]) -> list[Group]:
    """The latencies of both sides, group by group."""
    return [(group["on"]["latencies_ms"], group["off"]["latencies_ms"]) for group in found]


def single(bench: Bench, size_kb: int, seconds: float, when: str = "") -> list[Row]:
    """What is added to a call of one client."""
    name = f"added latency{when}, {size_kb} KB, 1 client"
    bench.say(f"{name}: in turn, for {seconds:.0f} s")
    most = 2000
    found = bench.load(name, size_kb=size_kb, clients=1, calls=1, groups=most, seconds=seconds, models="bench")
    return added(name, latencies(quieter_half(together(found, PAIRS_DRAWN_TOGETHER))), "ms", MEDIAN_BAR_MS, TAIL_BAR_MS)


def late(bench: Bench, size_kb: int, seconds: float, when: str = "") -> list[Row]:
    """What is added to a call while sixteen are under way, to a provider that takes its time."""
    name = f"added latency{when}, {size_kb} KB, {CLIENTS} clients"
    bench.say(f"{name}: a provider that thinks for 200 to 550 ms, for {seconds:.0f} s")
    found = bench.load(
        name, size_kb=size_kb, clients=CLIENTS, calls=CLIENTS * 3, groups=100, seconds=seconds, models=LATE_MODELS
    )
    return added(name, latencies(quieter_half(found)), "ms", MEDIAN_BAR_MS, TAIL_BAR_MS)


def saturated(bench: Bench, size_kb: int, seconds: float, when: str = "") -> list[Row]:
    """Throughput of a gateway that is never idle, and what that adds to its calls."""
    name = f"gateway throughput{when}, {size_kb} KB"
    bench.say(f"{name}: {CLIENTS} clients that never pause, for {seconds:.0f} s")
    calls = CLIENTS * 4
    found = quieter_half(
        bench.load(name, size_kb=size_kb, clients=CLIENTS, calls=calls, groups=200, seconds=seconds, models="bench")
    )
    rates: list[Group] = [([calls / group["on"]["seconds"]], [calls / group["off"]["seconds"]]) for group in found]
    processor: list[Group] = [([group["on"]["cpu_ms"] / calls], [group["off"]["cpu_ms"] / calls]) for group in found]
    on, off = (statistics.median(all_of(processor, side)) for side in (0, 1))
    spent = estimate(processor, median_ratio)
    cpu = f"processor time of a call{when}, {size_kb} KB"
    rows = [
        rate(name, rates, "calls/s", THROUGHPUT_BAR),
        Row(cpu, on, "ms", off, spent.value, None, (spent.low, spent.high), len(found)),
    ]
    waiting = f"added latency{when}, {size_kb} KB, {CLIENTS} clients that never pause"
    note = f"a call waits for {CLIENTS - 1} others: {CLIENTS} times the processor time that logging adds"
    return rows + added(waiting, latencies(found), "ms", MEDIAN_BAR_MS, TAIL_BAR_MS, note)


def latency(bench: Bench) -> list[Row]:
    """Added latency at every size, with one client and with sixteen."""
    bench.start_gateways()
    rows = []
    for size_kb, seconds in bench.extent.single_seconds.items():
        rows += single(bench, size_kb, seconds)
    for size_kb, seconds in bench.extent.late_seconds.items():
        rows += late(bench, size_kb, seconds)
    note_memory(bench)
    return rows


def throughput(bench: Bench) -> list[Row]:
    """Throughput at every size."""
    bench.start_gateways()
    rows = []
    for size_kb, seconds in bench.extent.throughput_seconds.items():
        rows += saturated(bench, size_kb, seconds)
    note_memory(bench)
    return rows


def outage(bench: Bench) -> list[Row]:
    """Latency and throughput while PostgreSQL is down."""
    seconds = bench.extent.outage_seconds
    when = " while PostgreSQL is down"
    if not bench.may_stop_services:
        note = "only where PostgreSQL may be stopped: in inventories with a double of the providers (group upstream)"
        return [Row(f"added latency and throughput{when}", None, "", note=note)]
    bench.start_gateways()
    bench.say(f"stop PostgreSQL for {seconds:.0f} s")
    bench.database.stop(seconds=round(seconds + PATIENCE * 2))
    began = time.monotonic()
    try:
        rows = saturated(bench, 2, seconds * 0.4, when) + late(bench, 2, seconds * 0.3, when)
        rows += single(bench, 2, max(1.0, seconds - (time.monotonic() - began) - 2), when)
        time.sleep(max(0.0, seconds - (time.monotonic() - began)))
        down = time.monotonic() - began
    finally:
        bench.database.start()
    bench.say(f"PostgreSQL is back after {down:.0f} s: wait until the spool is empty")
    bench.gateway.as_service("rows.py", "spool", patience=300)
    note_memory(bench)
    return rows


def drain(bench: Bench) -> list[Row]:
    """The shipper's rate against raw COPY of the same rows and against the ORM."""
    rows = []
    for size_kb, pairs in bench.extent.drain_pairs.items():
        bench.say(f"drain rate, {size_kb} KB: the shipper, raw COPY and the ORM, {bench.extent.drain_rounds} rounds")
        arguments = (f"--size={size_kb * 1024}", f"--pairs={pairs}", f"--rounds={bench.extent.drain_rounds}")
        found = bench.gateway.as_service("rows.py", "drain", *arguments, patience=300)
        bench.raw[f"drain rate, {size_kb} KB"] = found
        for baseline, what, limit in (
            ("copy", "raw COPY", COPY_BAR),
            ("orm", "the ORM, a pair a transaction", ORM_BAR),
        ):
            groups: list[Group] = [([one["shipper"]], [one[baseline]]) for one in found]
            rows.append(rate(f"drain rate, {size_kb} KB, against {what}", groups, "pairs/s", limit))
    return rows


def fill(bench: Bench) -> int:
    """Fill the second schema day by day, today first, while time and disk allow; returns the pairs in it."""
    if "filled" not in bench.raw:
        deadline = time.monotonic() + bench.extent.fill_seconds
        longest = 0.0
        pairs = 0
        for day in range(bench.extent.fill_days):
            # Two days at least: one to drop, one to delete.
            if day > 2 and time.monotonic() + longest > deadline:  # noqa: PLR2004
                bench.say(f"the time for filling is over after {day} days")
                break
            bench.say(f"fill the tables: day {day + 1} of {bench.extent.fill_days}, {bench.extent.fill_pairs:,} pairs")
            arguments = (f"--schemas={FULL_SCHEMA}", f"--day={-day}", f"--pairs={bench.extent.fill_pairs}")
            made = bench.database.tables("fill", *arguments, patience=300)
            longest = max(longest, made["seconds"])
            pairs += bench.extent.fill_pairs
            if made["free_gb"] < FREE_GB:
                bench.say(f"{made['free_gb']} GB are left on the database's disk: no more")
                break
        bench.raw["filled"] = pairs
    return int(bench.raw["filled"])


def insert(bench: Bench) -> list[Row]:
    """Raw COPY into tables that hold many pairs, against the same into empty ones."""
    stored = fill(bench)
    bench.say(f"insert rate with {stored:,} pairs stored against none, {bench.extent.insert_rounds} rounds")
    arguments = (f"--pairs={bench.extent.insert_pairs}", f"--rounds={bench.extent.insert_rounds}")
    found = bench.gateway.as_service("rows.py", "insert", *arguments, "--schemas", FULL_SCHEMA, SCHEMA, patience=300)
    bench.raw["insert rate"] = found
    groups: list[Group] = [([one[FULL_SCHEMA]], [one[SCHEMA]]) for one in found]
    note = f"{bench.extent.fill_pairs:,} pairs of every day, small ones, made by the server; today is one of the days"
    return [rate(f"insert rate with {stored:,} pairs stored, 2 KB", groups, "pairs/s", INSERT_BAR, note)]


def expire(bench: Bench) -> list[Row]:
    """Dropping a day against deleting as many rows."""
    fill(bench)
    bench.say(f"expire {bench.extent.fill_pairs:,} pairs: drop a day, delete the rows of another one")
    found = [bench.database.tables("expire", f"--schemas={FULL_SCHEMA}", patience=600)]
    bench.raw["expire"] = found
    dropping, deleting = (statistics.median(one[what] for one in found) for what in ("dropping", "deleting"))
    bar = Bar(EXPIRE_BAR, "at least", "ratio")
    note = "once; the DELETE leaves its rows to a vacuum, which is not counted"
    name = f"expiring {found[0]['pairs']:,} pairs by dropping, against DELETE … CASCADE"
    return [Row(name, dropping, "s", deleting, deleting / dropping, bar, None, len(found), note)]


def retain(bench: Bench) -> list[Row]:
    """What an insert takes while retention finds a long reader in its way, and when the day is dropped afterwards."""
    rounds, seconds = bench.extent.retention_rounds, bench.extent.retention_seconds
    bench.say(f"insert latency while a long reader holds retention up, {rounds} rounds of 2 x {seconds:.0f} s")
    found: list[dict[str, Any]] = []
    for number in range(rounds):
        oldest = -RETAINED_DAYS - number
        bench.database.tables("fill", f"--schemas={SCHEMA}", f"--day={oldest}", f"--pairs={RETAINED_PAIRS}")
        done: dict[str, Any] = {}
        for meanwhile in (False, True) if number % 2 == 0 else (True, False):
            with ThreadPoolExecutor() as pool:
                arguments = ("pace", f"--seconds={seconds}", f"--schemas={SCHEMA}")
                pace = pool.submit(bench.gateway.as_service, "rows.py", *arguments)
                if meanwhile:
                    done |= bench.database.tables("retain", f"--schemas={SCHEMA}")
                done["with" if meanwhile else "without"] = pace.result()
        found.append(done)
    bench.raw["retention"] = found
    attempts = found[0]["attempts"]
    note = (
        f"{attempts} attempts to drop a day that a transaction has read and keeps open, each given up by lock_timeout;"
        f" then, the reader being gone, the drop itself, after {found[0]['dropped_s']:.3g} s"
    )
    groups: list[Group] = [(one["with"], one["without"]) for one in found]
    rows = []
    for what, share in (("median", 0.5), ("p99", 0.99), ("longest", 1.0)):
        value, baseline = (percentile(all_of(groups, side), share) for side in (0, 1))
        name = f"insert during retention with a long reader, {what}"
        rows.append(Row(name, value, "ms", baseline, value / baseline, samples=len(all_of(groups, 0)), note=note))
        note = ""
    return rows


def size(bench: Bench) -> list[Row]:
    """Bytes of a stored pair against the JSON that it came from."""
    rows = []
    for day, (size_kb, pairs) in enumerate(bench.extent.size_pairs.items(), start=2):
        bench.say(f"bytes of a stored pair, {size_kb} KB: {pairs:,} pairs on a day of their own")
        arguments = (f"--size={size_kb * 1024}", f"--pairs={pairs}", f"--day={day}")
        stored = bench.gateway.as_service("rows.py", "store", *arguments)
        found = bench.database.tables("sizes", f"--schemas={SCHEMA}", f"--day={day}")
        bench.raw[f"bytes of a stored pair, {size_kb} KB"] = {**stored, **found}
        if found["pairs"] != pairs:
            raise RuntimeError(f"{found['pairs']} of {pairs} pairs were stored")
        json_bytes = stored["json_bytes"] / pairs
        bar = Bar(SIZE_BAR, "at most", "ratio")
        for what, total in (
            ("with indexes", found["tables"] + found["indexes"]),
            ("without indexes", found["tables"]),
        ):
            name = f"bytes of a stored pair, {size_kb} KB, {what}, against its JSON"
            rows.append(Row(name, total / pairs, "bytes", json_bytes, total / pairs / json_bytes, bar, None, pairs))
    return rows


def note_memory(bench: Bench) -> None:
    """Look at the memory of the three processes after a section's load."""
    bench.memory.append(bench.gateway.as_root("gateways.py", "memory"))


def memory(bench: Bench) -> list[Row]:
    """Memory of the worker that logs against the one that does not, and of the shipper."""
    bench.start_gateways()
    if not bench.memory:
        bench.say("memory: the same load for both gateways first")
        bench.load("memory", size_kb=10, clients=CLIENTS, calls=100, groups=4, seconds=60, models="bench")
        note_memory(bench)
    bench.raw["memory"] = bench.memory
    rows = []
    last = bench.memory[-1]
    worker_bar, shipper_bar = Bar(WORKER_BAR_MB, "at most", "value"), Bar(SHIPPER_BAR_MB, "at most", "value")
    for what in ("resident", "proportional"):
        on, off = last["on"][what], last["off"][what]
        seen = [one["on"][what] - one["off"][what] for one in bench.memory]
        spread = (min(seen), max(seen)) if len(seen) > 1 else None
        note = f"the interval is the least and the most of {len(seen)} looks" if spread else ""
        rows.append(
            Row(
                f"memory that logging adds to a worker, {what}",
                on - off,
                "MB",
                off,
                on / off,
                worker_bar,
                spread,
                len(seen),
                note,
            )
        )
    rows.append(Row("memory of the shipper, resident", last["shipper"]["resident"], "MB", bar=shipper_bar))
    rows.append(Row("memory of the shipper, peak", last["shipper"]["peak"], "MB", bar=shipper_bar))
    for pairs, pair_bytes in bench.extent.backlogs:
        rows += backlog(bench, pairs, pair_bytes)
    return rows


def backlog(bench: Bench, pairs: int, pair_bytes: int) -> list[Row]:
    """Memory of a fresh shipper that has emptied a full spool."""
    what = f"{pair_bytes // MB} MB" if pair_bytes >= MB else f"{pair_bytes // 1024} KB"
    bench.say(f"memory of the shipper: a backlog of {pairs:,} pairs of {what}")
    bench.gateway.host.run("systemctl stop litellm-bench-shipper.service")
    bench.gateway.as_service("rows.py", "spool", f"--size={pair_bytes}", f"--pairs={pairs}", patience=300)
    started = time.monotonic()
    bench.gateway.as_root("gateways.py", "ship")
    bench.gateway.as_service("rows.py", "spool", patience=300)
    seconds = time.monotonic() - started
    found = bench.gateway.as_root("gateways.py", "memory")["shipper"]
    bench.raw[f"backlog of {what}"] = found
    bar = Bar(SHIPPER_BAR_MB, "at most", "value")
    note = f"drained in {rounded(seconds)} s"
    return [
        Row(
            f"memory of the shipper after {pairs:,} pairs of {what}, resident",
            found["resident"],
            "MB",
            bar=bar,
            note=note,
        ),
        Row(f"memory of the shipper after {pairs:,} pairs of {what}, peak", found["peak"], "MB", bar=bar),
    ]


SECTIONS: dict[str, Callable[[Bench], list[Row]]] = {
    "latency": latency,
    "throughput": throughput,
    "outage": outage,
    "drain": drain,
    "insert": insert,
    "expire": expire,
    "retention": retain,
    "size": size,
    "memory": memory,
    "clients": clients,
}
"""In the order in which they are measured: the memory is that of gateways that have worked."""
