"""The statistics of the benchmark, its verdicts, and what it does when a host goes."""

import statistics
import threading
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import __main__ as command
from bench.figures import (
    Bar,
    Group,
    Row,
    added,
    estimate,
    median_difference,
    median_ratio,
    percentile,
    quieter_half,
    rate,
    rounded,
    table,
    tail_difference,
    together,
)
from bench.hosts import Gateway, Host, HostError, Watch
from bench.sections import QUICK, Bench

PATIENCE = 5.0

some = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50)


def groups(adds: float, count: int = 40, size: int = 20) -> list[Group]:
    """Latencies around 10 ms that drift from group to group; the subject's are ``adds`` longer."""
    chance = Random(1)
    found: list[Group] = []
    for number in range(count):
        drift = 10 + 5 * (number % 7)
        on, off = ([drift + chance.gauss(0, 0.5) for _ in range(size)] for _ in range(2))
        found.append(([value + adds for value in on], off))
    return found


# Percentiles


@pytest.mark.parametrize(
    ("values", "share", "wanted"),
    [
        ([7.0], 0.99, 7.0),
        ([3.0, 1.0, 2.0], 0.0, 1.0),
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        ([3.0, 1.0, 2.0], 1.0, 3.0),
        ([10.0, 20.0], 0.25, 12.5),
        ([float(n) for n in range(101)], 0.99, 99.0),
    ],
)
def test_percentile(values: list[float], share: float, wanted: float) -> None:
    assert percentile(values, share) == pytest.approx(wanted)


@given(some)
def test_half_is_the_median(values: list[float]) -> None:
    assert percentile(values, 0.5) == pytest.approx(statistics.median(values))


# Differences, ratios and their intervals


def test_added_median_is_found_under_a_drift_that_is_larger() -> None:
    found = estimate(groups(adds=0.3), median_difference)
    assert found.value == pytest.approx(0.3, abs=0.1)
    assert found.low < 0.3 < found.high
    assert found.high - found.low < 0.3


def test_no_difference_is_within_the_interval() -> None:
    found = estimate(groups(adds=0), median_difference)
    assert found.low < 0 < found.high


def test_interval_is_the_same_again() -> None:
    assert estimate(groups(0.3), tail_difference) == estimate(groups(0.3), tail_difference)


def test_fewer_groups_give_a_wider_interval() -> None:
    few, many = (estimate(groups(0.3, count=count), median_difference) for count in (6, 200))
    assert few.high - few.low > 2 * (many.high - many.low)


def test_tail_sees_what_the_median_does_not() -> None:
    slow: list[Group] = [([1.0] * 95 + [50.0] * 5, [1.0] * 100)] * 10
    assert median_difference(slow) == 0
    assert tail_difference(slow) == pytest.approx(49)


def test_ratio_is_that_of_the_means_round_by_round() -> None:
    assert median_ratio([([2.0], [1.0]), ([30.0, 10.0], [10.0]), ([9.0], [1.0])]) == pytest.approx(2.0)


# Which groups count


def block(latency: float, others_ms: float) -> dict[str, Any]:
    side = {"latencies_ms": [latency]}
    return {"on": side, "off": side, "others_ms": others_ms, "machine_ms": 100.0}


def test_quieter_half_is_that_of_the_machine_whatever_was_measured() -> None:
    found = quieter_half([block(n, others_ms=(n * 7) % 10) for n in range(10)])
    assert sorted(one["others_ms"] for one in found) == [0, 1, 2, 3, 4]
    order = [one["on"]["latencies_ms"][0] for one in found]
    assert order == sorted(order), "in the order in which they were measured"


def test_of_few_groups_all_count() -> None:
    few = [block(n, others_ms=n) for n in range(7)]
    assert quieter_half(few) == few


def test_neighbours_are_put_together_and_an_incomplete_group_stays_out() -> None:
    found = together([block(n, others_ms=1.0) for n in range(7)], 3)
    assert [one["on"]["latencies_ms"] for one in found] == [[0, 1, 2], [3, 4, 5]]
    assert [one["others_ms"] for one in found] == [3.0, 3.0]


# Verdicts


@pytest.mark.parametrize(
    ("bar", "value", "ratio", "met"),
    [
        (Bar(0.2, "at most", "value"), 0.2, 9.0, True),
        (Bar(0.2, "at most", "value"), 0.2001, 0.0, False),
        (Bar(0.97, "at least", "ratio"), 0.0, 0.97, True),
        (Bar(0.97, "at least", "ratio"), 99.0, 0.96999, False),
        (Bar(0.97, "at least", "ratio"), 99.0, None, None),
        (None, 1.0, 1.0, None),
    ],
)
def test_bar_is_met_without_rounding(bar: Bar | None, value: float, ratio: float | None, met: bool | None) -> None:
    row = Row("name", value, "ms", 1.0, ratio, bar)
    assert row.met is met
    assert row.as_json()["met"] is met


@pytest.mark.parametrize(("interval", "is_open"), [((0.1, 0.3), True), ((0.21, 0.3), False), (None, False)])
def test_bar_within_the_interval_is_open(interval: tuple[float, float] | None, is_open: bool) -> None:
    row = Row("name", 0.25, "ms", bar=Bar(0.2, "at most", "value"), interval=interval)
    assert row.is_open is is_open


def test_added_latency_gives_median_and_p99_with_their_bars() -> None:
    median, tail = added("latency", groups(0.3), "ms", 0.2, 1.0)
    assert (median.met, tail.met) == (False, True)
    assert [row.bar.limit for row in (median, tail) if row.bar] == [0.2, 1.0]
    assert median.samples == 800


def test_rate_is_judged_by_its_ratio() -> None:
    assert rate("rate", [([95.0], [100.0])] * 9, "calls/s", 0.97).met is False
    assert rate("rate", [([98.0], [100.0])] * 9, "calls/s", 0.97).met is True


def test_missed_bar_stands_out_in_the_table() -> None:
    missed = Row("slow", 0.25, "ms", 10.0, 1.025, Bar(0.2, "at most", "value"), (0.1, 0.3), note="why")
    text = table([missed, Row("not there", None, "ms")])
    assert "**no**, within the spread" in text
    assert "not measured" in text
    assert "- slow: why" in text


@pytest.mark.parametrize(("value", "wanted"), [(None, None), (0.123456, 0.1235), (999.96, 1000.0), (12345.6, 12346)])
def test_rounding_keeps_four_digits(value: float | None, wanted: float | None) -> None:
    assert rounded(value) == wanted


# A host that goes


class Connection:
    """Stands for Ansible's: notes what is run; a watch lasts until the host is gone."""

    def __init__(self) -> None:
        self.gone = threading.Event()
        self.scripts: list[str] = []

    def exec_command(self, command: str, in_data: bytes = b"", sudoable: bool = True) -> tuple[int, bytes, bytes]:
        self.scripts.append(command)
        if "exec sleep" in command and not self.gone.wait(PATIENCE):
            return 124, b"", b""
        return (137, b"", b"the container is gone") if self.gone.is_set() else (0, b"", b"")


class Inventory:
    """Two hosts, and a new connection to one of them each time."""

    def __init__(self) -> None:
        self.connections: dict[str, list[Connection]] = {"gateway1": [], "postgresql1": []}

    def connect(self, name: str) -> Host:
        self.connections[name].append(Connection())
        return Host(name, self.connections[name][-1])


class Database:
    def __init__(self, host: Host) -> None:
        self.host = host


def test_watch_says_which_host_is_gone() -> None:
    gone: list[str] = []
    noticed = threading.Event()
    connection = Connection()
    Watch(Host("postgresql1", connection), lambda name: (gone.append(name), noticed.set()))  # type: ignore[arg-type]
    assert not noticed.wait(0.05)
    connection.gone.set()
    assert noticed.wait(PATIENCE)
    assert gone == ["postgresql1"]


@pytest.mark.parametrize("name", ["gateway1", "postgresql1"])
def test_nothing_is_sent_any_more_after_a_host_is_gone(name: str) -> None:
    inventory = Inventory()
    said: list[str] = []
    database: Any = Database(inventory.connect("postgresql1"))
    bench = Bench(Gateway(inventory.connect("gateway1")), database, QUICK, said.append, may_stop_services=False)
    with command.watched(inventory, bench, said):  # type: ignore[arg-type]
        watching = inventory.connections[name][1]
        watching.gone.set()
        deadline = threading.Event()
        while bench.gone is None and not deadline.wait(0.01):
            pass
        deadline.wait(0.2)
        _, broken = command.measure(bench, [])
        ended = [
            script for one in inventory.connections["gateway1"] for script in one.scripts if "systemctl stop" in script
        ]
        assert len(ended) == (name != "gateway1"), "the gateways, the shipper and the probe are ended"
        if name != "gateway1":
            with pytest.raises(HostError, match="another host is gone"):
                bench.gateway.as_root("load.py")
    assert bench.gone == name
    assert broken == [f"the host {name} is gone, and nothing more was sent"]
    assert said == []
