"""Many at the same time: nothing is lost, and what PostgreSQL refuses is told in the same way."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from conformance.conftest import Conformance
from conformance.sides import Step
from conformance.wire import Json

TASKS = 50
COUNTER = {"where": {"param_name": "counter"}}
PATIENCE = {"timeout": timedelta(seconds=30), "max_wait": timedelta(seconds=30)}


def on_both(conformance: Conformance, *steps: Step) -> tuple[list[Any], list[Any]]:
    """The results of steps on either side; the counter is there before and gone after."""
    create = {"call": ["litellm_config", "create"], "arguments": {"data": {"param_name": "counter"}}}
    other = {"call": ["litellm_config", "create"], "arguments": {"data": {"param_name": "other"}}}
    names = {"where": {"param_name": {"in": ["counter", "other"]}}}
    delete = {"call": ["litellm_config", "delete_many"], "arguments": names}
    prisma, ours = conformance.comparison.results([create, other, *steps, delete])
    return prisma[2:-1], ours[2:-1]


def increment(name: str = "counter") -> Step:
    data = {"reload_revision": {"increment": 1}, "param_value": Json({"by": name})}
    return {"call": ["litellm_config", "update"], "arguments": {"where": {"param_name": name}, "data": data}}


def test_fifty_tasks_increment_one_counter_exactly(conformance: Conformance) -> None:
    read = {"call": ["litellm_config", "find_unique"], "arguments": COUNTER}
    for results in on_both(conformance, {"together": [increment() for _ in range(TASKS)]}, read):
        together, (*_, counter) = results[0], results
        assert not [one for one in together["results"] if "error" in one]
        assert counter["value"]["reload_revision"] == TASKS


def test_fifty_upserts_make_one_row(conformance: Conformance) -> None:
    data = {"create": {"param_name": "other", "reload_revision": 1}, "update": {"reload_revision": {"increment": 1}}}
    upsert = {"call": ["litellm_config", "upsert"], "arguments": {"where": {"param_name": "other"}, "data": data}}
    read = {"call": ["litellm_config", "find_unique"], "arguments": {"where": {"param_name": "other"}}}
    for *_, counter in on_both(conformance, {"together": [upsert] * TASKS}, read):
        assert counter["value"]["reload_revision"] == TASKS


def failures(results: list[Any]) -> list[tuple[str, str]]:
    """The errors of steps that ran together, whichever of them it was."""
    return sorted(
        (step["error"]["class"], step["error"]["code"])
        for one in results[0]["results"]
        for step in [one, *one.get("results", [])]
        if "error" in step
    )


def test_deadlock_is_told_as_prisma_tells_it(conformance: Conformance) -> None:
    def crossing(first: str, second: str) -> Step:
        return {"tx": [increment(first), {"sleep": 0.4}, increment(second)], "options": PATIENCE}

    prisma, ours = on_both(conformance, {"together": [crossing("counter", "other"), crossing("other", "counter")]})
    assert [name for name, _ in failures(prisma)] == ["DataError"]
    # Over a driver of JavaScript's, Prisma has no code for it; its documentation gives P2034.
    assert failures(ours) == [("DataError", "P2034")]


def test_serialization_failure_is_told_as_prisma_tells_it(conformance: Conformance) -> None:
    serializable = {"raw": ["execute_raw", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"]}
    work = {"tx": [serializable, {"sleep": 0.2}, increment(), {"sleep": 0.4}], "options": PATIENCE}
    prisma, ours = on_both(conformance, {"together": [work, work]})
    assert failures(prisma)
    assert failures(ours) == failures(prisma)


def test_transaction_that_takes_too_long_is_told_as_prisma_tells_it(conformance: Conformance) -> None:
    slow = {"tx": [{"sleep": 1.5}, increment()], "options": {"timeout": timedelta(seconds=1)}}
    prisma, ours = on_both(conformance, {"together": [slow]})
    assert failures(prisma)
    assert failures(ours) == failures(prisma)
